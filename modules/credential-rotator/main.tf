data "aws_partition" "current" {}
data "aws_region" "current" {}
data "aws_caller_identity" "current" {}

locals {
  partition = data.aws_partition.current.partition
  region    = data.aws_region.current.id
  account   = data.aws_caller_identity.current.account_id

  bus       = "default"
  source    = "credential-rotator" # of every event that the function sends
  namespace = "CredentialRotator"  # of every metric

  # Given, and not of this partition, region and account.
  foreign = [
    for name, arn in {
      gitlab_token_secret_arn    = var.gitlab_token_secret_arn
      gitlab_token_parameter_arn = var.gitlab_token_parameter_arn
      gitlab_token_kms_key_arn   = var.gitlab_token_kms_key_arn
      ca_layer_arn               = var.ca_layer_arn
      kms_key_arn                = var.kms_key_arn
    } : "${name} (${arn})"
    if arn == null ? false : slice(split(":", arn), 1, 5) != tolist([local.partition, split(":", arn)[2], local.region, local.account])
  ]
}

resource "aws_lambda_function" "rotator" {
  function_name = var.name
  description   = "Rotates the AWS access keys that GitLab CI/CD deploys with, of users below ${var.user_path}"
  role          = aws_iam_role.rotator.arn

  runtime          = "provided.al2023"
  architectures    = [var.architecture]
  handler          = "bootstrap"
  filename         = var.zip_path
  source_code_hash = filebase64sha256(var.zip_path)
  layers           = var.ca_layer_arn == null ? [] : [var.ca_layer_arn]

  # The most that Lambda gives: most of a run is waiting for IAM and for the pipeline.
  # What takes longer, the follow-up goes on with.
  timeout = 900
  # The least that Lambda sells. A run takes less than 20 MB, and waits rather than
  # computes, so that more would buy nothing.
  memory_size = 128

  reserved_concurrent_executions = var.reserved_concurrency

  environment {
    variables = merge(
      {
        GITLAB_URL        = var.gitlab_url
        JOURNAL           = "dynamodb://${aws_dynamodb_table.journal.name}"
        FOLLOW_UP_RULE    = aws_cloudwatch_event_rule.follow_up.name
        EVENT_BUS         = local.bus
        METRICS_NAMESPACE = local.namespace
        LOG_LEVEL         = var.logs.level
      },
      var.gitlab_token_secret_arn == null ? {} : { GITLAB_TOKEN_SECRET = var.gitlab_token_secret_arn },
      var.gitlab_token_parameter_arn == null ? {} : { GITLAB_TOKEN_PARAMETER = var.gitlab_token_parameter_arn },
      length(var.probe_regions) == 0 ? {} : { PROBE_REGIONS = join(",", var.probe_regions) },
      # Go adds what is in this folder to the system's authorities.
      var.ca_layer_arn == null ? {} : { SSL_CERT_DIR = "/opt/certs" },
    )
  }

  # The function writes its own JSON, metrics included: let Lambda pass it on as it is.
  logging_config {
    log_format = "Text"
    log_group  = aws_cloudwatch_log_group.rotator.name
  }

  dynamic "vpc_config" {
    for_each = var.vpc == null ? [] : [var.vpc]
    content {
      subnet_ids         = vpc_config.value.subnet_ids
      security_group_ids = vpc_config.value.security_group_ids
    }
  }

  # What the role may do must be in place before the first event is.
  depends_on = [aws_iam_role_policy.rotator]

  lifecycle {
    precondition {
      condition     = length(local.foreign) == 0
      error_message = "${join(", ", local.foreign)} must be of the partition ${local.partition}, the region ${local.region} and the account ${local.account}: the function reads its token, its keys and its code nowhere else."
    }
  }
}

resource "aws_cloudwatch_log_group" "rotator" {
  name              = "/aws/lambda/${var.name}"
  retention_in_days = var.logs.retention_days
  kms_key_id        = var.kms_key_arn
}

# An event is tried once. A rotation goes on where it stopped when it is followed up or
# ticked again: Lambda's own retries would only come too early.
resource "aws_lambda_function_event_invoke_config" "rotator" {
  function_name                = aws_lambda_function.rotator.function_name
  maximum_retry_attempts       = 0
  maximum_event_age_in_seconds = 21600 # a tick that waits for its turn (reserved_concurrency) is worth serving today

  destination_config {
    on_failure {
      destination = aws_sqs_queue.failures.arn
    }
  }
}

# The events that failed, each with what the function answered. No secret is in them.
resource "aws_sqs_queue" "failures" {
  name                      = "${var.name}-failures"
  message_retention_seconds = 1209600 # 14 days, the most: somebody may be on holiday
  sqs_managed_sse_enabled   = var.kms_key_arn == null ? true : null
  kms_master_key_id         = var.kms_key_arn
}
