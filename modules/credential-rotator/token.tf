# GitLab ends every token by itself. A quiet tick does not ask about it, so this does, daily.
resource "aws_cloudwatch_event_rule" "check_token" {
  name                = "${var.name}-check-token"
  description         = "Lets ${var.name} look daily when its GitLab token expires"
  schedule_expression = "rate(1 day)"
}

resource "aws_cloudwatch_event_target" "check_token" {
  rule  = aws_cloudwatch_event_rule.check_token.name
  arn   = aws_lambda_function.rotator.arn
  input = jsonencode({ action = "check_token" })
}

resource "aws_lambda_permission" "check_token" {
  statement_id  = "TheTokensRuleMayInvoke"
  function_name = aws_lambda_function.rotator.function_name
  action        = "lambda:InvokeFunction"
  principal     = "events.amazonaws.com"
  source_arn    = aws_cloudwatch_event_rule.check_token.arn
}

# From thirty days before its end the function tells of it, daily, and of a token that does
# not work. A rule of its own: the event is about no user and no project, and a mail that
# names them would have gaps.
resource "aws_cloudwatch_event_rule" "token" {
  name           = "${var.name}-token"
  description    = "A GitLab token that expires soon, or does not work, and needs a person"
  event_bus_name = local.bus
  event_pattern = jsonencode({
    source      = [local.source]
    detail-type = ["Credential Rotation Token Expiring"]
  })
}

resource "aws_cloudwatch_event_target" "token" {
  rule           = aws_cloudwatch_event_rule.token.name
  event_bus_name = local.bus
  arn            = aws_sns_topic.notifications.arn

  input_transformer {
    input_paths = {
      what   = "$.detail-type"
      reason = "$.detail.reason"
    }
    input_template = "{\"message\": \"<what>\", \"reason\": <reason>}"
  }

  depends_on = [aws_sns_topic_policy.notifications]
}

# The days are reported once a day, and are 0 for a token that does not work. When none are
# reported any more, nobody looks: the alarm then has no data, and says so. For a token that
# never expires, or that GitLab does not tell about, it never had any, and says nothing.
resource "aws_cloudwatch_metric_alarm" "token" {
  alarm_name        = "${var.name}-token"
  alarm_description = "The GitLab token of ${var.name} expires in less than 14 days, or does not work any more, and then no key is rotated: credential-rotator token status says which. With no data: nobody has looked at it for 30 hours, so look whether the rule ${aws_cloudwatch_event_rule.check_token.name} is enabled and what the log ${aws_cloudwatch_log_group.rotator.name} says."

  namespace                 = local.namespace
  metric_name               = "TokenDaysLeft"
  dimensions                = { Function = aws_lambda_function.rotator.function_name }
  statistic                 = "Minimum"
  period                    = 21600
  evaluation_periods        = 5
  datapoints_to_alarm       = 1
  threshold                 = 14
  comparison_operator       = "LessThanThreshold"
  treat_missing_data        = "missing"
  alarm_actions             = [aws_sns_topic.notifications.arn]
  insufficient_data_actions = [aws_sns_topic.notifications.arn]
}
