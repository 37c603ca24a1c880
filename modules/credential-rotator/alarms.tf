# A run that fails by itself is told by its event. This is for what no event tells: a
# configuration that is wrong, a crash, a timeout, an event that could not be sent.
resource "aws_cloudwatch_metric_alarm" "errors" {
  alarm_name        = "${var.name}-errors"
  alarm_description = "${var.name} answered an event with an error. The log group ${aws_cloudwatch_log_group.rotator.name} says why; both keys of a user work until it is mended."

  namespace           = "AWS/Lambda"
  metric_name         = "Errors"
  dimensions          = { FunctionName = aws_lambda_function.rotator.function_name }
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 1
  threshold           = 1
  comparison_operator = "GreaterThanOrEqualToThreshold"
  treat_missing_data  = "notBreaching" # no run, no error
  alarm_actions       = [aws_sns_topic.notifications.arn]
}

resource "aws_cloudwatch_metric_alarm" "failures" {
  alarm_name        = "${var.name}-failures"
  alarm_description = "Events that ${var.name} could not serve are in the queue ${aws_sqs_queue.failures.name}. Read them, mend the cause (the next tick tries again by itself), then delete them: the alarm ends when the queue is empty."

  namespace           = "AWS/SQS"
  metric_name         = "ApproximateNumberOfMessagesVisible"
  dimensions          = { QueueName = aws_sqs_queue.failures.name }
  statistic           = "Maximum"
  period              = 300
  evaluation_periods  = 1
  threshold           = 1
  comparison_operator = "GreaterThanOrEqualToThreshold"
  treat_missing_data  = "notBreaching" # SQS says nothing of a queue that nobody uses
  alarm_actions       = [aws_sns_topic.notifications.arn]
}

# An age is reported by every tick, once a day. 30 hours are a day and some slack, and one
# old key in them is enough. When no age at all comes any more, nobody looks after the keys:
# the alarm then has no data, and says so. It also has none before the first service is
# there, but CloudWatch acts on changes only, so nothing is sent then.
resource "aws_cloudwatch_metric_alarm" "key_age" {
  alarm_name        = "${var.name}-key-age"
  alarm_description = "A published key is older than ${var.alarms.max_age_days} days; the dashboard ${var.name} says whose. With no data: no service has reported the age of its key for 30 hours, so look whether the rules of the services are enabled and what the log ${aws_cloudwatch_log_group.rotator.name} says."

  namespace                 = local.namespace
  metric_name               = "PublishedKeyAge"
  dimensions                = { Function = aws_lambda_function.rotator.function_name }
  statistic                 = "Maximum"
  period                    = 21600
  evaluation_periods        = 5
  datapoints_to_alarm       = 1
  threshold                 = var.alarms.max_age_days
  comparison_operator       = "GreaterThanThreshold"
  treat_missing_data        = "missing"
  alarm_actions             = [aws_sns_topic.notifications.arn]
  insufficient_data_actions = [aws_sns_topic.notifications.arn]
}

resource "aws_cloudwatch_metric_alarm" "follow_up" {
  count = var.alarms.follow_up_hours == 0 ? 0 : 1

  alarm_name        = "${var.name}-follow-up"
  alarm_description = "Rotations have been in flight for ${var.alarms.follow_up_hours} hours on end: something does not finish, or is held. The log ${aws_cloudwatch_log_group.rotator.name} has one result a run, with the reason."

  namespace           = "AWS/Events"
  metric_name         = "Invocations"
  dimensions          = { RuleName = aws_cloudwatch_event_rule.follow_up.name }
  statistic           = "Sum"
  period              = 3600
  evaluation_periods  = var.alarms.follow_up_hours
  datapoints_to_alarm = var.alarms.follow_up_hours # in each of them
  threshold           = 1
  comparison_operator = "GreaterThanOrEqualToThreshold"
  treat_missing_data  = "notBreaching" # the rule was disabled
  alarm_actions       = [aws_sns_topic.notifications.arn]
}

# The watchman's watchman: CloudWatch still gets through to the topic when EventBridge does not.
resource "aws_cloudwatch_metric_alarm" "notifications" {
  alarm_name        = "${var.name}-notifications"
  alarm_description = "EventBridge could not pass on that a rotation has failed or is held. Look at the dashboard ${var.name}; then at the policies of the topic ${aws_sns_topic.notifications.name} and of its KMS key."

  namespace           = "AWS/Events"
  metric_name         = "FailedInvocations"
  dimensions          = { RuleName = aws_cloudwatch_event_rule.notifications.name }
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 1
  threshold           = 1
  comparison_operator = "GreaterThanOrEqualToThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.notifications.arn]
}
