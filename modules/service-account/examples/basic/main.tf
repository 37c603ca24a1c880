# A service as it is dropped in. What is applied before it, once for all services, is
# modules/credential-rotator, whose outputs the first two variables are.

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

variable "gitlab_oidc_provider_arn" {
  description = "The IAM OIDC provider of your GitLab. Default: no role for CI jobs."
  type        = string
  default     = null
}

resource "aws_iam_policy" "deploy" {
  name        = "svc-billing-deploy"
  description = "What the service's deployment may do"
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid      = "PublishTheSite"
      Effect   = "Allow"
      Action   = ["s3:PutObject", "s3:DeleteObject"]
      Resource = "arn:aws:s3:::shop-billing-site/*"
    }]
  })
}

module "svc_billing" {
  source = "../.."

  function_arn = var.function_arn
  user_path    = var.user_path
  user_name    = "svc-billing"
  project_ids  = [4711]
  policy_arns  = { deploy = aws_iam_policy.deploy.arn }

  request = {
    environment = "production" # its deployment is the proof that the new key arrived
    soak_hours  = 24           # the old key stays, inactive, for a day
  }

  gitlab_oidc = var.gitlab_oidc_provider_arn == null ? null : {
    provider_arn = var.gitlab_oidc_provider_arn
    audience     = "https://gitlab.com"
    project_path = "shop/billing"
  }
}

output "svc_billing" {
  description = "The service."
  value       = module.svc_billing
}
