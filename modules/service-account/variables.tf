variable "function_arn" {
  description = "The credential-rotator function: its ARN, without a version or an alias (output function_arn of modules/credential-rotator)."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^arn:[a-z-]+:lambda:[a-z0-9-]+:[0-9]{12}:function:[A-Za-z0-9_-]{1,64}$", var.function_arn))
    error_message = "function_arn must be the ARN of one Lambda function, arn:PARTITION:lambda:REGION:ACCOUNT:function:NAME, without a version or an alias behind the name and without wildcards."
  }

  validation {
    condition     = startswith(var.function_arn, "arn:${local.partition}:lambda:${local.region}:${local.account_id}:function:")
    error_message = "function_arn must be in the partition, Region and account of the AWS provider, arn:${local.partition}:lambda:${local.region}:${local.account_id}:function:…: a rule can tick only a function beside it."
  }
}

variable "user_path" {
  description = "The path below which the rotator may touch users (output user_path of modules/credential-rotator), such as /gitlab/."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex(local.path_form, var.user_path)) && length(var.user_path) <= 512
    error_message = "user_path must begin and end with a slash and name at least one folder, such as /gitlab/ (A-Z a-z 0-9 _ . + = , @ - between the slashes): / alone would be every user of the account, and a wildcard any."
  }
}

variable "user_name" {
  description = "The IAM user whose key is rotated."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_+=,.@-]{1,64}$", var.user_name))
    error_message = "user_name must be one name that IAM allows, 1 to 64 of A-Z a-z 0-9 _ + = , . @ -: no path, no ARN, no wildcard."
  }
}

variable "create_user" {
  description = "Make the user. false: it exists, and whoever made it also sets its binding tag and policies."
  type        = bool
  default     = true
  nullable    = false
}

variable "path" {
  description = "The path of the user made here: user_path (the default) or below it."
  type        = string
  default     = null

  validation {
    condition     = var.path == null || can(regex(local.path_form, var.path)) && length(coalesce(var.path, "/")) <= 512
    error_message = "path must begin and end with a slash, such as /gitlab/shop/ (A-Z a-z 0-9 _ . + = , @ - between the slashes)."
  }

  validation {
    condition     = var.path == null || startswith(coalesce(var.path, "/"), var.user_path)
    error_message = "path must be ${var.user_path} or below it: the rotator may not touch users elsewhere."
  }

  validation {
    condition     = var.path == null || var.create_user
    error_message = "path is for a user made here: with create_user = false the user has one."
  }
}

variable "policy_arns" {
  description = "The managed policies to attach to the user made here, each under a name of your choice, such as { deploy = aws_iam_policy.deploy.arn }."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for arn in values(var.policy_arns) : can(regex(local.policy_form, arn))])
    error_message = "policy_arns must be ARNs of managed policies of this account or of AWS in this partition, arn:${local.partition}:iam::${local.account_id}:policy/… or arn:${local.partition}:iam::aws:policy/…, without wildcards."
  }

  validation {
    condition     = length(var.policy_arns) <= 20
    error_message = "policy_arns must be at most 20: IAM attaches no more to a user."
  }

  validation {
    condition     = length(var.policy_arns) == 0 || var.create_user
    error_message = "policy_arns are for a user made here: with create_user = false whoever made the user attaches its policies."
  }
}

variable "permissions_boundary_arn" {
  description = "The permissions boundary of the user made here."
  type        = string
  default     = null

  validation {
    condition     = var.permissions_boundary_arn == null || can(regex(local.policy_form, var.permissions_boundary_arn))
    error_message = "permissions_boundary_arn must be the ARN of a managed policy of this account or of AWS in this partition, arn:${local.partition}:iam::${local.account_id}:policy/…, without wildcards."
  }

  validation {
    condition     = var.permissions_boundary_arn == null || var.create_user
    error_message = "permissions_boundary_arn is for a user made here: with create_user = false whoever made the user sets its boundary."
  }
}

variable "project_ids" {
  description = "The GitLab projects whose variables hold the key, by their numbers: one; or several, or none beside group_ids, with destinations. With group_ids they become the user's binding tag, which the rotator obeys."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = length(var.destinations) > 0 || length(var.project_ids) == 1 && length(var.group_ids) == 0
    error_message = "project_ids must hold exactly one project, not ${length(var.project_ids)}, and group_ids none, unless destinations says how the key is brought to each: a request without them publishes to one project, and every other one would keep a key that is going to be deleted. Name each in destinations, or give each a user of its own."
  }

  validation {
    condition     = alltrue([for id in var.project_ids : can(regex(local.id_form, id))])
    error_message = "project_ids must be the number on the GitLab project's page, a whole number above 0: no path, no wildcard."
  }

  validation {
    condition     = length(distinct(var.project_ids)) == length(var.project_ids)
    error_message = "project_ids must name each project once."
  }

  validation {
    condition     = length(var.project_ids) + length(var.group_ids) >= 1 && length(var.project_ids) + length(var.group_ids) <= local.places_max
    error_message = "project_ids and group_ids must be 1 to ${local.places_max} together: a key in more places than a person can list by heart should be several keys, each with a user of its own."
  }

  validation {
    condition     = length(join(" ", concat(var.project_ids, [for id in var.group_ids : "group:${id}"]))) <= local.binding_max
    error_message = "project_ids and group_ids must fit into the ${local.binding_max} characters of an IAM tag: give some of them a user of its own."
  }
}

variable "group_ids" {
  description = "The GitLab groups whose variables hold the key, by their numbers. Every project in such a group, and in its subgroups, gets the key. Needs destinations."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for id in var.group_ids : can(regex(local.id_form, id))])
    error_message = "group_ids must be the number on the GitLab group's page, a whole number above 0: no path, no wildcard."
  }

  validation {
    condition     = length(distinct(var.group_ids)) == length(var.group_ids)
    error_message = "group_ids must name each group once."
  }
}

# Of any type: destinations.tf says why, and has the rest of the rules.
variable "destinations" {
  description = "How the key is brought to each place: a list of objects with project_id or group_id and any of environment_scope, access_key_id_variable, secret_access_key_variable, credentials_file_variable, profile, allow_unmasked, and redeploy, ref, environment, fallback, inputs, or a list of these in redeploys. Default: the one project of project_ids, as request says."
  type        = any
  default     = []
  nullable    = false

  # Only in a list does a number stand for each element: in an object it is a name, in a
  # set, which has no order, the element.
  validation {
    condition     = can([for i, d in var.destinations : i + length(keys(d))])
    error_message = "destinations must be a list of objects, in the order in which they are redeployed."
  }

  validation {
    condition     = try(alltrue([for d in var.destinations : can([for j, w in d.redeploys : j + length(keys(w))]) && try(length(d.redeploys) > 0, false) if can(d.redeploys)]), true)
    error_message = "destinations: redeploys must be a list of one or more objects, in the order in which they are done, or left out."
  }

  validation {
    condition     = try(length(var.destinations) <= local.places_max, true)
    error_message = "destinations must be at most ${local.places_max}."
  }

  # In bytes, of which base64 makes four of three.
  validation {
    condition     = length(base64encode(jsonencode(var.destinations))) * 3 / 4 <= local.destinations_max
    error_message = "destinations must be at most ${local.destinations_max} bytes as JSON${var.scheduler ? "" : ", because a rule sends no more: name fewer inputs, or set scheduler"}."
  }

  validation {
    condition     = try(length(setsubtract(flatten([for d in var.destinations : keys(d)]), keys(local.target_fields))) == 0, true)
    error_message = "destinations has unknown fields (${try(join(", ", setsubtract(flatten([for d in var.destinations : keys(d)]), keys(local.target_fields))), "")}): each may have ${join(", ", keys(local.target_fields))}. What is about the key, such as max_age_days, belongs into request."
  }

  validation {
    condition     = try(length(setsubtract(flatten([for d in var.destinations : [for w in try(d.redeploys, []) : keys(w)]]), keys(local.way_fields))) == 0, true)
    error_message = "destinations: redeploys have unknown fields (${try(join(", ", setsubtract(flatten([for d in var.destinations : [for w in try(d.redeploys, []) : keys(w)]]), keys(local.way_fields))), "")}): each may have ${join(", ", keys(local.way_fields))}."
  }
}

# A map, not an object: Terraform drops the attributes that an object does not know
# without a word, and a mistyped soak_hours would silently be no soak.
variable "request" {
  description = "How the key is rotated: any of environment, environment_scope, access_key_id_variable, secret_access_key_variable, redeploy, ref, fallback, max_age_days, lead_days, overlap_hours, soak_hours; with destinations, of the last four. What is not given has the function's default."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = length(setsubtract(keys(var.request), concat(local.request_texts, local.request_numbers))) == 0
    error_message = "request has unknown fields (${join(", ", setsubtract(keys(var.request), concat(local.request_texts, local.request_numbers)))}): it may have ${join(", ", concat(local.request_texts, local.request_numbers))}. force and retire_key are for one run, never for every night; inputs, redeploys and files belong into destinations, of which one is enough."
  }

  validation {
    condition     = length(var.destinations) == 0 || length(setintersection(keys(var.request), local.request_texts)) == 0
    error_message = "request: ${join(", ", local.request_texts)} are about one place and belong into each of the destinations; beside them request may have ${join(", ", local.request_numbers)}."
  }

  validation {
    condition     = alltrue([for field in local.request_numbers : can(regex("^(0|[1-9][0-9]{0,3})$", lookup(var.request, field, "0")))])
    error_message = "request: ${join(", ", local.request_numbers)} must be whole numbers."
  }

  validation {
    condition     = try(tonumber(lookup(var.request, "max_age_days", 90)) >= 1 && tonumber(lookup(var.request, "max_age_days", 90)) <= 365, true)
    error_message = "request: max_age_days must be 1 to 365."
  }

  validation {
    condition     = try(tonumber(lookup(var.request, "lead_days", 7)) < max(tonumber(lookup(var.request, "max_age_days", 90)), 1), true)
    error_message = "request: lead_days must be 0 to max_age_days - 1 (it is 7 when it is not given): a key is replaced when it is max_age_days - lead_days old."
  }

  validation {
    condition     = try(tonumber(lookup(var.request, "overlap_hours", 0)) <= 720 && tonumber(lookup(var.request, "soak_hours", 0)) <= 720, true)
    error_message = "request: overlap_hours and soak_hours must be 0 to 720."
  }

  validation {
    condition     = alltrue([for field in ["access_key_id_variable", "secret_access_key_variable"] : can(regex("^[A-Za-z0-9_]{1,255}$", lookup(var.request, field, "A")))])
    error_message = "request: access_key_id_variable and secret_access_key_variable must be 1 to 255 of A-Z a-z 0-9 _."
  }

  validation {
    condition     = lookup(var.request, "access_key_id_variable", "AWS_ACCESS_KEY_ID") != lookup(var.request, "secret_access_key_variable", "AWS_SECRET_ACCESS_KEY")
    error_message = "request: access_key_id_variable and secret_access_key_variable must differ."
  }

  validation {
    condition     = can(regex("^${local.printable}{1,255}$", lookup(var.request, "environment_scope", "*")))
    error_message = "request: environment_scope must be 1 to 255 printable characters; * is every environment."
  }

  validation {
    condition     = can(regex("^${local.printable}{0,255}$", lookup(var.request, "environment", "")))
    error_message = "request: environment must be at most 255 printable characters."
  }

  validation {
    condition     = can(regex("^${local.printable}{0,255}$", lookup(var.request, "ref", ""))) && !can(regex(local.no_ref, lookup(var.request, "ref", "")))
    error_message = "request: ref must be the name of a branch or tag: at most 255 printable characters, no space, none of ~ ^ : ? * [ \\, and no dash in front."
  }

  validation {
    condition     = contains(["pipeline", "deployment", "none"], lookup(var.request, "redeploy", "pipeline"))
    error_message = "request: redeploy must be pipeline, deployment or none."
  }

  validation {
    condition     = lookup(var.request, "redeploy", "pipeline") != "none" || try(tonumber(lookup(var.request, "overlap_hours", 0)) >= 1, true)
    error_message = "request: overlap_hours must be at least 1 with redeploy none: nothing else tells when the service has the new key."
  }

  validation {
    condition     = lookup(var.request, "redeploy", "pipeline") != "deployment" || lookup(var.request, "environment", "") != ""
    error_message = "request: environment is missing: redeploy deployment redeploys what is live there."
  }

  validation {
    condition     = contains(lookup(var.request, "redeploy", "pipeline") == "deployment" ? ["", "pipeline", "live_commit"] : [""], lookup(var.request, "fallback", ""))
    error_message = "request: fallback must be left out or, with redeploy deployment, be pipeline or live_commit."
  }
}

variable "schedule" {
  description = "When the function is asked whether the key is due: rate(…) or cron(…), in UTC. Default: daily, at a minute that the user's name gives."
  type        = string
  default     = null

  validation {
    condition     = var.schedule == null || can(regex("^(rate|cron)\\(.*\\)$", var.schedule))
    error_message = "schedule must be rate(VALUE UNIT), such as rate(1 day), or cron(MINUTES HOURS DAY-OF-MONTH MONTH DAY-OF-WEEK YEAR), such as cron(30 4 * * ? *)."
  }

  validation {
    condition     = var.schedule == null || !can(regex("^rate", var.schedule)) || can(regex("^rate\\((1 (minute|hour|day)|([2-9]|[1-9][0-9]{1,4}) (minutes|hours|days))\\)$", var.schedule))
    error_message = "schedule: rate takes a whole number above 0 and a unit, one space between them: rate(1 minute), rate(1 hour) and rate(1 day) in the singular, every other number in the plural, such as rate(90 days)."
  }

  validation {
    condition     = var.schedule == null || !can(regex("^cron", var.schedule)) || can(regex(local.cron_form, var.schedule))
    error_message = "schedule: cron takes six fields with one space between them, minutes 0-59, hours 0-23, day of month 1-31, month 1-12 or JAN-DEC, day of week 1-7 or SUN-SAT, year 1970-2199; exactly one of the two days is ?, such as cron(30 4 * * ? *)."
  }
}

variable "scheduler" {
  description = "Tick by EventBridge Scheduler in place of a rule on the event bus: for more than about fifty services on one function (see the README)."
  type        = bool
  default     = false
  nullable    = false
}

variable "scheduler_role_arn" {
  description = "With scheduler: a role for many services to share, by which Scheduler invokes the function. Default: a role of its own, made here."
  type        = string
  default     = null

  validation {
    condition     = var.scheduler_role_arn == null || can(regex("^arn:${local.partition}:iam::${local.account_id}:role/[A-Za-z0-9_+=,.@/-]+$", var.scheduler_role_arn))
    error_message = "scheduler_role_arn must be the ARN of a role of this account, arn:${local.partition}:iam::${local.account_id}:role/…, without wildcards."
  }

  validation {
    condition     = var.scheduler_role_arn == null || var.scheduler
    error_message = "scheduler_role_arn is for scheduler = true: a rule needs no role."
  }
}

variable "make_first_key" {
  description = "Invoke the function once when this is applied, and wait for it, so that a new service has its key at once and not after the first tick. No key enters Terraform."
  type        = bool
  default     = false
  nullable    = false
}

variable "gitlab_oidc" {
  description = "Make a role by which a CI job of the project may rotate this service's key, and no other, at once. provider_arn: the IAM OIDC provider of your GitLab. audience: the aud of the job's id_token. project_path: group/project. ref and ref_type: the one branch or tag whose jobs may; let it be protected."
  type = object({
    provider_arn = string
    audience     = string
    project_path = string
    ref          = optional(string, "main")
    ref_type     = optional(string, "branch")
  })
  default = null

  validation {
    condition     = can(regex("^arn:${local.partition}:iam::${local.account_id}:oidc-provider/[A-Za-z0-9.-]+(:[0-9]+)?(/[A-Za-z0-9._~/-]+)?$", var.gitlab_oidc.provider_arn)) || var.gitlab_oidc == null
    error_message = "gitlab_oidc: provider_arn must be the ARN of an IAM OIDC provider of this account, arn:${local.partition}:iam::${local.account_id}:oidc-provider/HOST."
  }

  validation {
    condition     = can(regex("^[A-Za-z0-9:/._-]{1,255}$", var.gitlab_oidc.audience)) || var.gitlab_oidc == null
    error_message = "gitlab_oidc: audience must be what the job's id_tokens name as aud, such as https://gitlab.com: 1 to 255 of A-Z a-z 0-9 : / . _ -, no wildcard."
  }

  validation {
    condition     = can(regex("^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)+$", var.gitlab_oidc.project_path)) || var.gitlab_oidc == null
    error_message = "gitlab_oidc: project_path must be the whole path of one project, such as shop/billing: no wildcard, no URL."
  }

  validation {
    condition     = can(regex("^[A-Za-z0-9_][A-Za-z0-9_./@+#=-]{0,254}$", var.gitlab_oidc.ref)) || var.gitlab_oidc == null
    error_message = "gitlab_oidc: ref must be the whole name of one branch or tag (A-Z a-z 0-9 _ . / @ + # = -): no wildcard."
  }

  validation {
    condition     = contains(["branch", "tag"], try(var.gitlab_oidc.ref_type, "branch"))
    error_message = "gitlab_oidc: ref_type must be branch or tag."
  }
}

variable "tags" {
  description = "Tags for everything that is made here."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = !contains([for key in keys(var.tags) : lower(key)], local.binding_tag)
    error_message = "tags must not hold ${local.binding_tag}, in whatever case: it says where the user's key may go, and is made from project_ids and group_ids."
  }
}
