variable "name" {
  description = "Name of the function, and the beginning of every other name that the module makes."
  type        = string
  default     = "credential-rotator"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,38}[a-z0-9]$", var.name))
    error_message = "The name must have 3 to 40 characters, a-z, 0-9 and hyphens, and begin with a letter: queues, alarms and policies are named after it."
  }
}

# The function

variable "zip_path" {
  description = "Path of the finished bootstrap.zip, from a release or from scripts/build, for the architecture below."
  type        = string
  nullable    = false

  validation {
    condition     = try(fileexists(var.zip_path), false)
    error_message = "There is no file at zip_path (a folder is none): build it with scripts/build, or fetch bootstrap.zip of a release, and give its path, such as dist/linux-arm64/bootstrap.zip."
  }
}

variable "architecture" {
  description = "What the zip was built for, as Lambda calls it: arm64, or x86_64 for linux-amd64."
  type        = string
  default     = "arm64"
  nullable    = false

  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "The architecture must be arm64 or x86_64 (the zip in linux-amd64 is for x86_64)."
  }
}

variable "reserved_concurrency" {
  description = "How many rotations may run at once; -1: as many as the account allows. A tick that has to wait is served within six hours."
  type        = number
  default     = -1
  nullable    = false

  validation {
    condition     = var.reserved_concurrency == -1 || (var.reserved_concurrency >= 1 && floor(var.reserved_concurrency) == var.reserved_concurrency)
    error_message = "reserved_concurrency must be -1 (no limit of its own) or a whole number from 1: 0 would switch the function off."
  }
}

variable "probe_regions" {
  description = "Regions in which a new key must work before it is published: all in which services use theirs. Empty: this region."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = length(var.probe_regions) <= 10 && alltrue([for r in var.probe_regions : can(regex("^[a-z]{2}[a-z-]*-[a-z]+-[0-9]+$", r))])
    error_message = "probe_regions must be at most ten names of regions, such as eu-central-1."
  }
}

variable "logs" {
  description = "How long the function's log is kept (the history of a rotation is in the journal, for 400 days), and how much is in it: debug, info, warn or error."
  type = object({
    retention_days = optional(number, 400)
    level          = optional(string, "info")
  })
  default  = {}
  nullable = false

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.logs.retention_days)
    error_message = "logs.retention_days must be a number of days that CloudWatch knows: 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 or 3653."
  }
  validation {
    condition     = contains(["debug", "info", "warn", "error"], var.logs.level)
    error_message = "logs.level must be debug, info, warn or error."
  }
}

# Whose keys

variable "user_path" {
  description = "IAM path of the users whose keys the function may make and delete, such as /gitlab/. The one input that decides how far its role reaches."
  type        = string
  nullable    = false

  validation {
    condition     = var.user_path != "/"
    error_message = "user_path must not be /: the function could make a key for every user of this account, administrators too. Move the users that deploy to a path of their own (aws iam update-user --user-name NAME --new-path /gitlab/) and give that."
  }
  validation {
    condition     = var.user_path == "/" || can(regex("^/([A-Za-z0-9_+=,.@-]+/)+$", var.user_path))
    error_message = "user_path must begin and end with / and name a folder, such as /gitlab/, of letters, digits and _+=,.@- only: a wildcard would widen what the function may do."
  }
  validation {
    condition     = length(var.user_path) <= 512
    error_message = "user_path must not be longer than 512 characters, as IAM has it."
  }
}

# GitLab

variable "gitlab_url" {
  description = "Where GitLab is."
  type        = string
  default     = "https://gitlab.com"
  nullable    = false

  validation {
    condition     = can(regex("^https://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~-]+)*/?$", var.gitlab_url))
    error_message = "gitlab_url must be https://HOST[:PORT][/PATH] and no more: over http the token would travel in clear, and a token or a user does not belong in it."
  }
}

variable "gitlab_token_secret_arn" {
  description = "ARN of the Secrets Manager secret that holds the GitLab token: plain, or JSON with a field token. The token itself must never pass through Terraform: it would be in its state."
  type        = string
  default     = null

  validation {
    condition     = var.gitlab_token_secret_arn == null || can(regex("^arn:[a-z-]+:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[A-Za-z0-9/_+=.@-]+-[A-Za-z0-9]{6}$", var.gitlab_token_secret_arn))
    error_message = "gitlab_token_secret_arn must be the whole ARN of one secret, arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME-XXXXXX, with its six random characters and no wildcard: not its name, and never the token."
  }
  validation {
    condition     = (var.gitlab_token_secret_arn == null) != (var.gitlab_token_parameter_arn == null)
    error_message = "Give exactly one of gitlab_token_secret_arn (Secrets Manager) and gitlab_token_parameter_arn (a SecureString of Parameter Store): the function must know which token is meant."
  }
}

variable "gitlab_token_parameter_arn" {
  description = "ARN of the SSM SecureString that holds the GitLab token, instead of a secret."
  type        = string
  default     = null

  validation {
    condition     = var.gitlab_token_parameter_arn == null || can(regex("^arn:[a-z-]+:ssm:[a-z0-9-]+:[0-9]{12}:parameter/[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$", var.gitlab_token_parameter_arn))
    error_message = "gitlab_token_parameter_arn must be the whole ARN of one parameter, arn:aws:ssm:REGION:ACCOUNT:parameter/NAME, with no wildcard: not its name, and never the token."
  }
}

variable "gitlab_token_kms_key_arn" {
  description = "ARN of the KMS key that the token is encrypted with, if that is a key of your own and not the AWS managed one."
  type        = string
  default     = null

  validation {
    condition     = var.gitlab_token_kms_key_arn == null || can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+$", var.gitlab_token_kms_key_arn))
    error_message = "gitlab_token_kms_key_arn must be the ARN of one key, arn:aws:kms:REGION:ACCOUNT:key/ID: not an alias, which may come to mean another key."
  }
}

variable "ca_layer_arn" {
  description = "ARN of a version of a Lambda layer with PEM files in certs/: the authorities to trust besides the system's, for a GitLab of your own."
  type        = string
  default     = null

  validation {
    condition     = var.ca_layer_arn == null || can(regex("^arn:[a-z-]+:lambda:[a-z0-9-]+:[0-9]{12}:layer:[A-Za-z0-9_-]+:[0-9]+$", var.ca_layer_arn))
    error_message = "ca_layer_arn must be the ARN of one version of a layer, arn:aws:lambda:REGION:ACCOUNT:layer:NAME:VERSION."
  }
}

variable "vpc" {
  description = "Subnets and security groups for a function that reaches GitLab through a VPC. They need a way to GitLab and to the AWS APIs, all on port 443; IAM has no endpoint in a VPC in most regions, so that means NAT or a proxy."
  type = object({
    subnet_ids         = list(string)
    security_group_ids = list(string)
  })
  default = null

  validation {
    condition     = var.vpc == null || try(length(var.vpc.subnet_ids) > 0 && length(var.vpc.security_group_ids) > 0, false)
    error_message = "vpc needs at least one of subnet_ids and one of security_group_ids: with none, Lambda would leave the function outside of the VPC."
  }
  validation {
    condition = var.vpc == null || try(alltrue(concat(
      [for id in var.vpc.subnet_ids : can(regex("^subnet-[0-9a-f]+$", id))],
      [for id in var.vpc.security_group_ids : can(regex("^sg-[0-9a-f]+$", id))],
    )), false)
    error_message = "vpc.subnet_ids must be ids such as subnet-0a1b2c3d, and vpc.security_group_ids such as sg-0a1b2c3d."
  }
}

# What is kept

variable "kms_key_arn" {
  description = "ARN of a KMS key of your own for the journal, the failure queue, the log and the topic; its policy must let EventBridge, CloudWatch and CloudWatch Logs use it (README). Default: what AWS encrypts with by itself."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_arn == null || can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+$", var.kms_key_arn))
    error_message = "kms_key_arn must be the ARN of one key, arn:aws:kms:REGION:ACCOUNT:key/ID: not an alias."
  }
}

variable "deletion_protection" {
  description = "Whether DynamoDB refuses to delete the journal. Set it to false, and apply, before you destroy the module."
  type        = bool
  default     = true
  nullable    = false
}

# What is told

variable "notification_email" {
  description = "Address that gets a mail when a rotation has failed or is held, and for every alarm. It has to confirm the subscription. Default: none; subscribe to the topic as you like."
  type        = string
  default     = null

  validation {
    condition     = var.notification_email == null || can(regex("^[^@,;<>\\s]+@[^@,;<>\\s]+\\.[^@,;<>\\s.]+$", var.notification_email))
    error_message = "notification_email must be one mail address, such as platform@example.com."
  }
}

variable "alarms" {
  description = "When to raise the alarm: max_age_days is the age of a published key that you promised to nobody to exceed (the greatest max_age_days of all services); follow_up_hours is how long rotations may be in flight on end (more than the longest overlap and soak that a service asks for; 0: no such alarm)."
  type = object({
    max_age_days    = optional(number, 90)
    follow_up_hours = optional(number, 24)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.alarms.max_age_days >= 1 && var.alarms.max_age_days <= 365 && floor(var.alarms.max_age_days) == var.alarms.max_age_days
    error_message = "alarms.max_age_days must be a whole number of days from 1 to 365."
  }
  validation {
    condition     = var.alarms.follow_up_hours >= 0 && var.alarms.follow_up_hours <= 168 && floor(var.alarms.follow_up_hours) == var.alarms.follow_up_hours
    error_message = "alarms.follow_up_hours must be a whole number of hours from 1 to 168, as far as an alarm can look back, or 0 for no such alarm."
  }
}
