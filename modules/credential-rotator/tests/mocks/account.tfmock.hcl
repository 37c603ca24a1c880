# An account in which everything has the ARN that AWS would give it.

mock_data "aws_partition" {
  defaults = { partition = "aws" }
}

mock_data "aws_region" {
  defaults = { id = "eu-central-1", name = "eu-central-1" }
}

mock_data "aws_caller_identity" {
  defaults = { account_id = "123456789012" }
}

mock_resource "aws_iam_role" {
  defaults = { id = "credential-rotator", arn = "arn:aws:iam::123456789012:role/credential-rotator" }
}

mock_resource "aws_lambda_function" {
  defaults = { arn = "arn:aws:lambda:eu-central-1:123456789012:function:credential-rotator" }
}

mock_resource "aws_cloudwatch_log_group" {
  defaults = { arn = "arn:aws:logs:eu-central-1:123456789012:log-group:/aws/lambda/credential-rotator" }
}

mock_resource "aws_dynamodb_table" {
  defaults = { arn = "arn:aws:dynamodb:eu-central-1:123456789012:table/credential-rotator" }
}

mock_resource "aws_sqs_queue" {
  defaults = { arn = "arn:aws:sqs:eu-central-1:123456789012:credential-rotator-failures" }
}

mock_resource "aws_sns_topic" {
  defaults = { arn = "arn:aws:sns:eu-central-1:123456789012:credential-rotator-notifications" }
}

mock_resource "aws_cloudwatch_metric_alarm" {
  defaults = { arn = "arn:aws:cloudwatch:eu-central-1:123456789012:alarm:credential-rotator-alarm" }
}

# Four rules, four ARNs.
override_resource {
  target = aws_cloudwatch_event_rule.follow_up
  values = { arn = "arn:aws:events:eu-central-1:123456789012:rule/credential-rotator-follow-up" }
}

override_resource {
  target = aws_cloudwatch_event_rule.notifications
  values = { arn = "arn:aws:events:eu-central-1:123456789012:rule/credential-rotator-notifications" }
}

override_resource {
  target = aws_cloudwatch_event_rule.check_token
  values = { arn = "arn:aws:events:eu-central-1:123456789012:rule/credential-rotator-check-token" }
}

override_resource {
  target = aws_cloudwatch_event_rule.token
  values = { arn = "arn:aws:events:eu-central-1:123456789012:rule/credential-rotator-token" }
}
