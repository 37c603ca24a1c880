output "function_arn" {
  description = "ARN of the function. modules/service-account needs it."
  value       = aws_lambda_function.rotator.arn
}

output "function_name" {
  description = "Name of the function. modules/service-account needs it."
  value       = aws_lambda_function.rotator.function_name
}

output "user_path" {
  description = "Path below which users must be for the function to reach them. modules/service-account needs it."
  value       = var.user_path
}

output "scheduler_role_arn" {
  description = "ARN of the role by which EventBridge Scheduler ticks the function. modules/service-account takes it with scheduler = true."
  # Put together, so that it is known in the first plan: service-account makes a role of
  # its own when it is given none, and could not tell otherwise.
  value      = "arn:${local.partition}:iam::${local.account}:role/${aws_iam_role.schedules.name}"
  depends_on = [aws_iam_role_policy.schedules]
}

output "role_arn" {
  description = "ARN of the role that the function runs as."
  value       = aws_iam_role.rotator.arn
}

output "table_name" {
  description = "Name of the journal table, for JOURNAL=dynamodb://NAME: a person who runs the command must use the same journal."
  value       = aws_dynamodb_table.journal.name
}

output "topic_arn" {
  description = "ARN of the topic that is told of failed and held rotations and of alarms: subscribe chat, pager or tickets here."
  value       = aws_sns_topic.notifications.arn
}

output "follow_up_rule_name" {
  description = "Name of the rule that the function enables while a rotation is in flight."
  value       = aws_cloudwatch_event_rule.follow_up.name
}

output "failure_queue_url" {
  description = "URL of the queue with the events that the function could not serve."
  value       = aws_sqs_queue.failures.id
}

output "failure_queue_arn" {
  description = "ARN of that queue."
  value       = aws_sqs_queue.failures.arn
}

output "log_group_name" {
  description = "Name of the function's log group."
  value       = aws_cloudwatch_log_group.rotator.name
}

output "dashboard_name" {
  description = "Name of the CloudWatch dashboard."
  value       = aws_cloudwatch_dashboard.rotator.dashboard_name
}
