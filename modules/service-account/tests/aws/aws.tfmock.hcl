# The account in which the tests take place, and what AWS would have answered.

mock_data "aws_partition" {
  defaults = { partition = "aws" }
}

mock_data "aws_caller_identity" {
  defaults = { account_id = "123456789012" }
}

mock_data "aws_region" {
  defaults = { id = "eu-central-1" }
}

mock_data "aws_iam_user" {
  defaults = {
    arn  = "arn:aws:iam::123456789012:user/rotated/shop/svc-billing"
    path = "/rotated/shop/"
    tags = { "credential-rotator:project-ids" = "4711" }
  }
}

mock_resource "aws_iam_user" {
  defaults = { arn = "arn:aws:iam::123456789012:user/rotated/svc-billing" }
}

mock_resource "aws_cloudwatch_event_rule" {
  defaults = { arn = "arn:aws:events:eu-central-1:123456789012:rule/rotate-svc-billing" }
}

mock_resource "aws_iam_role" {
  defaults = { arn = "arn:aws:iam::123456789012:role/mocked" }
}

mock_resource "aws_lambda_alias" {
  defaults = { arn = "arn:aws:lambda:eu-central-1:123456789012:function:credential-rotator:service-044421b0d6ba6bda" }
}

mock_resource "aws_scheduler_schedule" {
  defaults = { arn = "arn:aws:scheduler:eu-central-1:123456789012:schedule/default/rotate-svc-billing" }
}

mock_resource "aws_lambda_invocation" {
  defaults = { result = "{\"status\":\"rotated\",\"reason\":\"the user had no key\",\"current_key_id\":\"AKIAABB24NN6COV5WZX6\"}" }
}
