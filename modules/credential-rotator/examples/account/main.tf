# A whole account: the function, and two services whose keys it keeps young. The token is
# put into its secret by hand, so that it is in no state:
#
#   aws secretsmanager put-secret-value --secret-id credential-rotator/gitlab-token --secret-string file://token

terraform {
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100, < 7.0"
    }
  }
}

provider "aws" {
  region = "eu-central-1"
}

variable "zip_path" {
  description = "Path of bootstrap.zip for arm64."
  type        = string
}

variable "deletion_protection" {
  description = "false, applied before a destroy: then the journal goes as well."
  type        = bool
  default     = true
}

# --- once ---

resource "aws_secretsmanager_secret" "gitlab_token" {
  name                    = "credential-rotator/gitlab-token"
  description             = "The GitLab token of the credential rotator: scope api, role Maintainer"
  recovery_window_in_days = var.deletion_protection ? 30 : 0
}

module "credential_rotator" {
  source = "../.."

  zip_path                = var.zip_path
  user_path               = "/gitlab/"
  gitlab_token_secret_arn = aws_secretsmanager_secret.gitlab_token.arn
  notification_email      = "platform@example.com"
  deletion_protection     = var.deletion_protection
}

# An account has one at most for each GitLab: use it, if yours is there already.
resource "aws_iam_openid_connect_provider" "gitlab" {
  url            = "https://gitlab.com"
  client_id_list = ["https://gitlab.com"]
}

# --- for each service ---

module "svc_billing" {
  source = "../../../service-account"

  function_arn = module.credential_rotator.function_arn
  user_path    = module.credential_rotator.user_path
  user_name    = "svc-billing"
  project_ids  = [4711]
  request      = { environment = "production" } # its deployment proves that the new key arrived

  # Jobs of its main branch may have the key replaced at once.
  gitlab_oidc = {
    provider_arn = aws_iam_openid_connect_provider.gitlab.arn
    audience     = "https://gitlab.com"
    project_path = "shop/billing"
  }
}

module "svc_search" {
  source = "../../../service-account"

  function_arn = module.credential_rotator.function_arn
  user_path    = module.credential_rotator.user_path
  user_name    = "svc-search"
  project_ids  = [4712]
  scheduler    = true # from about fifty services on
}

output "credential_rotator" {
  description = "The function."
  value       = module.credential_rotator
}

output "services" {
  description = "The services."
  value       = { for service in [module.svc_billing, module.svc_search] : service.user_name => service }
}
