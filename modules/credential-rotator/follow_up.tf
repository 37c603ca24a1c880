# Goes on with rotations that take longer than one run. The function enables the rule
# while any is in flight, and disables it when none is.
resource "aws_cloudwatch_event_rule" "follow_up" {
  name                = "${var.name}-follow-up"
  description         = "Goes on with key rotations in flight; ${var.name} itself enables and disables it"
  schedule_expression = "rate(5 minutes)"
  state               = "DISABLED"

  lifecycle {
    ignore_changes = [state] # the function's business from here on
  }
}

resource "aws_cloudwatch_event_target" "follow_up" {
  rule  = aws_cloudwatch_event_rule.follow_up.name
  arn   = aws_lambda_function.rotator.arn
  input = jsonencode({ action = "follow_up" })

  # The next one comes in five minutes.
  retry_policy {
    maximum_event_age_in_seconds = 300
    maximum_retry_attempts       = 3
  }
}

resource "aws_lambda_permission" "follow_up" {
  statement_id  = "TheFollowUpRuleMayInvoke"
  function_name = aws_lambda_function.rotator.function_name
  action        = "lambda:InvokeFunction"
  principal     = "events.amazonaws.com"
  source_arn    = aws_cloudwatch_event_rule.follow_up.arn
}
