output "user_name" {
  description = "The IAM user."
  value       = var.user_name
}

output "user_arn" {
  description = "The IAM user's ARN."
  value       = local.user_arn
}

output "request" {
  description = "What the function is asked at every tick, as JSON."
  value       = local.request

  precondition {
    condition     = length(local.fault_kinds) == 0
    error_message = join("; ", local.fault_kinds)
  }

  precondition {
    condition     = length(local.fault_places) == 0
    error_message = join("; ", local.fault_places)
  }

  precondition {
    condition     = length(local.fault_variables) == 0
    error_message = join("; ", local.fault_variables)
  }

  precondition {
    condition     = length(local.fault_ways) == 0
    error_message = join("; ", local.fault_ways)
  }
}

output "schedule" {
  description = "When it is asked, in UTC."
  value       = local.schedule
}

output "rule_arn" {
  description = "The rule on the event bus; null with scheduler."
  value       = one(aws_cloudwatch_event_rule.tick[*].arn)
}

output "schedule_arn" {
  description = "The schedule of EventBridge Scheduler; null without scheduler."
  value       = one(aws_scheduler_schedule.tick[*].arn)
}

output "first_key" {
  description = "With make_first_key, what the function answered: status, reason and current_key_id. No secret."
  value       = var.make_first_key ? { for field in ["status", "reason", "current_key_id"] : field => try(jsondecode(one(values(aws_lambda_invocation.first_key)[*].result))[field], null) } : null
}

output "invoke_role_arn" {
  description = "With gitlab_oidc, the role that the service's CI job assumes; else null."
  value       = one(aws_iam_role.invoke[*].arn)
}

output "invoke_alias_arn" {
  description = "With gitlab_oidc, the function as the service's CI job names it: the alias that serves this user only; else null."
  value       = one(aws_lambda_alias.invoke[*].arn)
}
