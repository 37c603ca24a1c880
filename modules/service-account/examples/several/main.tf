# Services whose one key is in several places. Each place is named twice: among the ids,
# which say where the key may go, and in a destination, which says how it gets there.

terraform {
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100, < 7.0"
    }
  }
}

variable "function_arn" {
  description = "Output function_arn of modules/credential-rotator."
  type        = string
}

variable "user_path" {
  description = "Output user_path of modules/credential-rotator."
  type        = string
}

# Two projects deploy with one key.
module "svc_shop" {
  source = "../.."

  function_arn = var.function_arn
  user_path    = var.user_path
  user_name    = "svc-shop"
  project_ids  = [4711, 4712]
  request      = { soak_hours = 24 } # what is about the key, not about a place

  destinations = [
    { project_id = 4711, environment = "production" },
    { project_id = 4712, redeploy = "deployment", environment = "production", fallback = "live_commit" },
  ]
}

# A group's variables, which the jobs of all its projects get. A group has no pipelines:
# redeployed are the projects that are named, in this order.
module "svc_search" {
  source = "../.."

  function_arn = var.function_arn
  user_path    = var.user_path
  user_name    = "svc-search"
  group_ids    = [9]

  destinations = [{
    group_id = 9
    redeploys = [
      { project_id = 4721, environment = "production" },
      { project_id = 4722, environment = "production" },
      { project_id = 4723, redeploy = "deployment", environment = "production" },
    ]
  }]
}

# One project, whose pipeline is told by its inputs where to deploy: to production only
# when staging has succeeded.
module "svc_mail" {
  source = "../.."

  function_arn = var.function_arn
  user_path    = var.user_path
  user_name    = "svc-mail"
  project_ids  = [4731]

  destinations = [{
    project_id = 4731
    redeploys = [
      { environment = "staging", inputs = { target = "staging" } },
      { environment = "production", inputs = { target = "production", replicas = 3 } },
    ]
  }]
}

output "services" {
  description = "The services."
  value       = { for service in [module.svc_shop, module.svc_search, module.svc_mail] : service.user_name => service }
}
