# What a platform team applies once in an account: the function that rotates the keys of
# all users below /gitlab/. The token is then put into its secret by hand, so that it is in
# no state:
#
#   aws secretsmanager put-secret-value --secret-id credential-rotator/gitlab-token --secret-string file://token

terraform {
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.80"
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

# What modules/service-account is given, once a service.
output "credential_rotator" {
  value = module.credential_rotator
}
