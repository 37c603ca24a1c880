# For services that are ticked by EventBridge Scheduler and not by a rule: one role for
# all of them to share. A rule for each would be a statement each in the function's policy,
# which holds about fifty; a role for each would meet IAM's limit of a thousand.
resource "aws_iam_role" "schedules" {
  name        = "${var.name}-schedules"
  description = "EventBridge Scheduler ticks the function ${var.name}"

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "SchedulerMayActForSchedulesOfThisAccount"
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "scheduler.amazonaws.com" }
      # The schedule group, not the schedule: Scheduler presents no other source.
      Condition = {
        StringEquals = {
          "aws:SourceAccount" = local.account
          "aws:SourceArn"     = "arn:${local.partition}:scheduler:${local.region}:${local.account}:schedule-group/default"
        }
      }
    }]
  })
}

resource "aws_iam_role_policy" "schedules" {
  name = "tick"
  role = aws_iam_role.schedules.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid      = "TickTheFunction"
      Effect   = "Allow"
      Action   = "lambda:InvokeFunction"
      Resource = aws_lambda_function.rotator.arn
    }]
  })
}
