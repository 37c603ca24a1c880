# One service: its IAM user, the tick that keeps its key young, and, if wanted, the role
# by which its own pipeline may ask for a new key at once.
#
# There is no aws_iam_access_key here: keys are the rotator's. Terraform would write
# their secrets into its state, and make each deleted key again.

data "aws_partition" "current" {}
data "aws_caller_identity" "current" {}
data "aws_region" "current" {}

locals {
  partition  = data.aws_partition.current.partition
  account_id = data.aws_caller_identity.current.account_id
  region     = data.aws_region.current.id

  binding_tag = "credential-rotator:project-ids"

  # What the user name gives: it is the same in every plan and differs between services.
  # 16 digits name the alias, by which the function knows whom it serves.
  hash = sha256(var.user_name)

  # Names of rules, and the ids of Lambda's permissions, allow fewer characters than IAM
  # does in a user's name. One that has to be changed gets the hash, so that no two
  # become the same.
  plain = replace(var.user_name, "/[^A-Za-z0-9_-]/", "-")
  name  = local.plain == var.user_name && length(var.user_name) <= 46 ? "rotate-${var.user_name}" : "rotate-${substr(local.plain, 0, 29)}-${substr(local.hash, 0, 16)}"
}

# The request: only what was given, so that the function's defaults stay the function's.
locals {
  request_texts   = ["environment", "environment_scope", "access_key_id_variable", "secret_access_key_variable", "redeploy", "ref", "fallback"]
  request_numbers = ["max_age_days", "lead_days", "overlap_hours", "soak_hours"]

  max_age_days = tonumber(lookup(var.request, "max_age_days", 90))
  lead_days    = tonumber(lookup(var.request, "lead_days", 7))

  request = jsonencode(merge(
    { user = var.user_name },
    { for id in var.project_ids : "project_id" => tonumber(id) if length(var.destinations) == 0 },
    { for field in ["destinations"] : field => local.destinations if length(var.destinations) > 0 },
    { for field in local.request_texts : field => var.request[field] if contains(keys(var.request), field) },
    { for field in local.request_numbers : field => tonumber(var.request[field]) if contains(keys(var.request), field) },
  ))
}

# The schedule. Neither the provider nor a stand-in of AWS looks into it, so the
# variable's validation does, by these forms.
locals {
  minute   = parseint(substr(local.hash, 0, 8), 16) % 1440
  daily    = "cron(${local.minute % 60} ${floor(local.minute / 60)} * * ? *)"
  schedule = var.schedule == null ? local.daily : var.schedule

  # One value, a range or a star, with or without a step; a list of such.
  cron_value = {
    minute = "[0-5]?[0-9]"
    hour   = "(?:[01]?[0-9]|2[0-3])"
    day    = "(?:0?[1-9]|[12][0-9]|3[01])"
    month  = "(?:0?[1-9]|1[0-2]|JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC)"
    week   = "(?:[1-7]|SUN|MON|TUE|WED|THU|FRI|SAT)"
    year   = "(?:19[7-9][0-9]|2[01][0-9][0-9])"
  }
  cron_item = { for field, value in local.cron_value : field => "(?:\\*|${value}(?:-${value})?)(?:/[1-9][0-9]*)?" }
  cron_list = { for field, item in local.cron_item : field => "${item}(?:,${item})*" }
  cron_day  = "(?:${local.cron_list.day}|L|LW|${local.cron_value.day}W)"
  cron_week = "(?:${local.cron_list.week}|L|${local.cron_value.week}L|${local.cron_value.week}#[1-5])"
  cron_form = "^cron\\(${local.cron_list.minute} ${local.cron_list.hour} (?:${local.cron_day} ${local.cron_list.month} \\?|\\? ${local.cron_list.month} ${local.cron_week}) ${local.cron_list.year}\\)$"

  # Only a rate in days can be longer than the lead.
  rate_days = try(tonumber(regex("^rate\\(([0-9]+) days?\\)$", local.schedule)[0]), 0)
}

# Forms that several variables must have.
locals {
  id_form     = "^[1-9][0-9]{0,17}$"
  path_form   = "^/(?:[A-Za-z0-9_.+=,@-]+/)+$"
  policy_form = "^arn:${local.partition}:iam::(?:aws|${local.account_id}):policy/(?:[A-Za-z0-9_.+=,@-]+/)*[A-Za-z0-9_+=,.@-]{1,128}$"
  printable   = "[\\pL\\pM\\pN\\pP\\pS ]"
  no_ref      = "[ ~^:?*\\[\\\\]|^-" # what no branch or tag has in its name
}

# --- the user ---

resource "aws_iam_user" "service" {
  count = var.create_user ? 1 : 0

  name                 = var.user_name
  path                 = var.path == null ? var.user_path : var.path
  permissions_boundary = var.permissions_boundary_arn

  # The keys are the rotator's, Terraform knows none of them: without this, the user
  # could not be removed.
  force_destroy = true

  tags = merge(var.tags, { (local.binding_tag) = local.binding })
}

resource "aws_iam_user_policy_attachment" "service" {
  for_each = var.policy_arns

  user       = aws_iam_user.service[0].name
  policy_arn = each.value
}

data "aws_iam_user" "existing" {
  count = var.create_user ? 0 : 1

  user_name = var.user_name

  lifecycle {
    postcondition {
      condition     = startswith(self.path, var.user_path)
      error_message = "user ${var.user_name} has the path ${self.path}, and the rotator may touch only users below ${var.user_path}: move it there (aws iam update-user --user-name ${var.user_name} --new-path ${var.user_path}; this changes its ARN, so look for policies that name it)."
    }

    # IAM finds a user in whatever case; the journal and the alias know one spelling.
    postcondition {
      condition     = endswith(self.arn, "/${var.user_name}")
      error_message = "IAM knows user ${var.user_name} as ${self.arn}: write user_name as IAM does, or one user would have two journals."
    }
  }
}

locals {
  bound = lookup(try(data.aws_iam_user.existing[0].tags, {}), local.binding_tag, "") # of one that exists
}

# A warning, not an error: the tag may come with the same apply, from wherever the
# user is made. Until then the function refuses, and nothing is broken.
check "existing_user_is_bound" {
  assert {
    condition     = var.create_user || toset(compact(split(" ", local.bound))) == toset(local.places)
    error_message = "user ${var.user_name} is ${local.bound == "" ? "not bound" : "bound to ${local.bound}, not"} to ${local.binding}, so every rotation will be refused: if its key belongs there, run aws iam tag-user --user-name ${var.user_name} --tags 'Key=${local.binding_tag},Value=${local.binding}'"
  }
}

locals {
  user_arn = var.create_user ? one(aws_iam_user.service[*].arn) : one(data.aws_iam_user.existing[*].arn)
}

# --- the tick ---

locals {
  # A tick that cannot be delivered for six hours is given up: the next one asks the
  # same question. A tick that is delivered twice finds the first at work, or done.
  tick_age_seconds = 6 * 60 * 60
  tick_attempts    = 185 # what EventBridge does at most; the age ends it
}

check "ticks_come_before_a_key_is_too_old" {
  assert {
    condition     = local.rate_days <= max(try(local.lead_days, 7), 1)
    error_message = "with schedule ${local.schedule}, a key that is not quite due at one tick waits ${local.rate_days} days for the next, and is then up to ${try(local.max_age_days - local.lead_days, 83) + local.rate_days} days old: tick daily, or at least every ${max(try(local.lead_days, 7), 1)} days (request.lead_days). The age decides, so more ticks do not mean more keys."
  }
}

resource "aws_cloudwatch_event_rule" "tick" {
  count = var.scheduler ? 0 : 1

  name                = local.name
  description         = "Asks credential-rotator whether the key of ${var.user_name} is due"
  schedule_expression = local.schedule
  tags                = var.tags
}

resource "aws_cloudwatch_event_target" "tick" {
  count = var.scheduler ? 0 : 1

  rule      = aws_cloudwatch_event_rule.tick[0].name
  target_id = "credential-rotator"
  arn       = var.function_arn
  input     = local.request

  retry_policy {
    maximum_event_age_in_seconds = local.tick_age_seconds
    maximum_retry_attempts       = local.tick_attempts
  }

  depends_on = [aws_lambda_permission.tick]
}

resource "aws_lambda_permission" "tick" {
  count = var.scheduler ? 0 : 1

  statement_id  = local.name
  action        = "lambda:InvokeFunction"
  function_name = var.function_arn
  principal     = "events.amazonaws.com"
  source_arn    = aws_cloudwatch_event_rule.tick[0].arn
}

# --- the tick by EventBridge Scheduler ---

locals {
  makes_scheduler_role = var.scheduler && var.scheduler_role_arn == null

  # The schedule group, not the schedule: Scheduler presents no other source.
  scheduler_trust = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "SchedulerMayActForSchedulesOfThisAccount"
      Effect    = "Allow"
      Principal = { Service = "scheduler.amazonaws.com" }
      Action    = "sts:AssumeRole"
      Condition = {
        StringEquals = {
          "aws:SourceAccount" = local.account_id
          "aws:SourceArn"     = "arn:${local.partition}:scheduler:${local.region}:${local.account_id}:schedule-group/default"
        }
      }
    }]
  })

  scheduler_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid      = "TickTheRotator"
      Effect   = "Allow"
      Action   = "lambda:InvokeFunction"
      Resource = var.function_arn
    }]
  })
}

resource "aws_iam_role" "scheduler" {
  count = local.makes_scheduler_role ? 1 : 0

  name               = "${local.name}-schedule"
  description        = "EventBridge Scheduler ticks credential-rotator for ${var.user_name}"
  assume_role_policy = local.scheduler_trust
  tags               = var.tags
}

resource "aws_iam_role_policy" "scheduler" {
  count = local.makes_scheduler_role ? 1 : 0

  name   = "tick"
  role   = aws_iam_role.scheduler[0].name
  policy = local.scheduler_policy
}

resource "aws_scheduler_schedule" "tick" {
  count = var.scheduler ? 1 : 0

  name                = local.name
  description         = "Asks credential-rotator whether the key of ${var.user_name} is due"
  group_name          = "default"
  schedule_expression = local.schedule

  # Spreads those who chose the same hour.
  flexible_time_window {
    mode                      = "FLEXIBLE"
    maximum_window_in_minutes = 15
  }

  target {
    arn      = var.function_arn
    role_arn = local.makes_scheduler_role ? aws_iam_role.scheduler[0].arn : var.scheduler_role_arn
    input    = local.request

    retry_policy {
      maximum_event_age_in_seconds = local.tick_age_seconds
      maximum_retry_attempts       = local.tick_attempts
    }
  }

  depends_on = [aws_iam_role_policy.scheduler]
}

# --- the first key ---

# Once for each user name, when it is applied for the first time: a user without a key
# is given one. What the function answers is kept in the state: key ids, no secret.
resource "aws_lambda_invocation" "first_key" {
  for_each = var.make_first_key ? toset([var.user_name]) : toset([])

  function_name   = var.function_arn
  input           = local.request
  lifecycle_scope = "CREATE_ONLY"

  lifecycle {
    # Another soak is no reason to ask again: the next tick brings it.
    ignore_changes = [input]
  }

  depends_on = [aws_iam_user.service, aws_iam_user_policy_attachment.service, data.aws_iam_user.existing]
}

# --- the role of the service's own pipeline ---

locals {
  oidc_host  = try(regex("oidc-provider/(.+)$", var.gitlab_oidc.provider_arn)[0], "")
  alias      = "service-${substr(local.hash, 0, 16)}"
  invoke_arn = "${var.function_arn}:${local.alias}"

  invoke_trust = var.gitlab_oidc == null ? null : jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "OneRefOfOneProjectMayAssumeThisRole"
      Effect    = "Allow"
      Principal = { Federated = var.gitlab_oidc.provider_arn }
      Action    = "sts:AssumeRoleWithWebIdentity"
      Condition = {
        StringEquals = {
          "${local.oidc_host}:aud" = var.gitlab_oidc.audience
          "${local.oidc_host}:sub" = "project_path:${var.gitlab_oidc.project_path}:ref_type:${var.gitlab_oidc.ref_type}:ref:${var.gitlab_oidc.ref}"
        }
      }
    }]
  })

  # AWS cannot look into a payload. So the role may invoke one alias only, and the
  # function, which is told by which alias it was invoked, serves only its user.
  invoke_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid      = "RotateThisServiceOnly"
      Effect   = "Allow"
      Action   = "lambda:InvokeFunction"
      Resource = local.invoke_arn
    }]
  })
}

resource "aws_lambda_alias" "invoke" {
  count = var.gitlab_oidc == null ? 0 : 1

  name             = local.alias
  description      = "Serves ${var.user_name} only"
  function_name    = var.function_arn
  function_version = "$LATEST"
}

resource "aws_iam_role" "invoke" {
  count = var.gitlab_oidc == null ? 0 : 1

  name               = "${local.name}-invoke"
  description        = "Jobs of ${var.gitlab_oidc.project_path} rotate the key of ${var.user_name}"
  assume_role_policy = local.invoke_trust
  tags               = var.tags
}

resource "aws_iam_role_policy" "invoke" {
  count = var.gitlab_oidc == null ? 0 : 1

  name   = "invoke"
  role   = aws_iam_role.invoke[0].name
  policy = local.invoke_policy
}
