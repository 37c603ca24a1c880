# How what is made is set, where a mistake would be found too late.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  zip_path                = "main.tf" # any file: nothing looks into it here
  user_path               = "/gitlab/"
  gitlab_token_secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:gitlab/token-AbCdEf"
}

run "the_function_runs_the_zip_for_as_long_as_Lambda_allows" {
  assert {
    condition = (
      aws_lambda_function.rotator.runtime == "provided.al2023" &&
      aws_lambda_function.rotator.architectures == tolist(["arm64"]) &&
      aws_lambda_function.rotator.handler == "bootstrap" &&
      aws_lambda_function.rotator.filename == "main.tf" &&
      aws_lambda_function.rotator.source_code_hash == filebase64sha256("main.tf") &&
      aws_lambda_function.rotator.timeout == 900 &&
      aws_lambda_function.rotator.memory_size == 128 &&
      aws_lambda_function.rotator.reserved_concurrent_executions == -1 &&
      aws_lambda_function.rotator.logging_config[0].log_group == "/aws/lambda/credential-rotator" &&
      length(aws_lambda_function.rotator.vpc_config) == 0 &&
      length(aws_lambda_function.rotator.layers) == 0
    )
    error_message = "The function is ${jsonencode(aws_lambda_function.rotator)}."
  }
}

run "the_environment_is_all_that_the_function_reads_and_holds_no_token" {
  assert {
    condition = aws_lambda_function.rotator.environment[0].variables == tomap({
      GITLAB_URL          = "https://gitlab.com"
      GITLAB_TOKEN_SECRET = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:gitlab/token-AbCdEf"
      JOURNAL             = "dynamodb://credential-rotator"
      FOLLOW_UP_RULE      = "credential-rotator-follow-up"
      EVENT_BUS           = "default"
      METRICS_NAMESPACE   = "CredentialRotator"
      LOG_LEVEL           = "info"
    })
    error_message = "The environment is ${jsonencode(aws_lambda_function.rotator.environment)}."
  }
}

run "a_GitLab_of_your_own_is_reached_through_its_network_and_trusted_by_its_authority" {
  variables {
    architecture               = "x86_64"
    gitlab_url                 = "https://gitlab.example.com/git"
    gitlab_token_secret_arn    = null
    gitlab_token_parameter_arn = "arn:aws:ssm:eu-central-1:123456789012:parameter/gitlab/token"
    ca_layer_arn               = "arn:aws:lambda:eu-central-1:123456789012:layer:ca:3"
    probe_regions              = ["eu-central-1", "us-east-1"]
    reserved_concurrency       = 5
    logs                       = { level = "debug" }
    vpc                        = { subnet_ids = ["subnet-0a1b2c3d"], security_group_ids = ["sg-0a1b2c3d"] }
  }
  assert {
    condition = aws_lambda_function.rotator.environment[0].variables == tomap({
      GITLAB_URL             = "https://gitlab.example.com/git"
      GITLAB_TOKEN_PARAMETER = "arn:aws:ssm:eu-central-1:123456789012:parameter/gitlab/token"
      JOURNAL                = "dynamodb://credential-rotator"
      FOLLOW_UP_RULE         = "credential-rotator-follow-up"
      EVENT_BUS              = "default"
      METRICS_NAMESPACE      = "CredentialRotator"
      LOG_LEVEL              = "debug"
      PROBE_REGIONS          = "eu-central-1,us-east-1"
      SSL_CERT_DIR           = "/opt/certs"
    })
    error_message = "The environment is ${jsonencode(aws_lambda_function.rotator.environment)}."
  }
  assert {
    condition = (
      aws_lambda_function.rotator.architectures == tolist(["x86_64"]) &&
      aws_lambda_function.rotator.layers == tolist(["arn:aws:lambda:eu-central-1:123456789012:layer:ca:3"]) &&
      aws_lambda_function.rotator.reserved_concurrent_executions == 5 &&
      aws_lambda_function.rotator.vpc_config[0].subnet_ids == toset(["subnet-0a1b2c3d"]) &&
      aws_lambda_function.rotator.vpc_config[0].security_group_ids == toset(["sg-0a1b2c3d"])
    )
    error_message = "The function is ${jsonencode(aws_lambda_function.rotator)}."
  }
}

run "an_event_is_tried_once_and_kept_when_it_fails" {
  assert {
    condition = (
      aws_lambda_function_event_invoke_config.rotator.maximum_retry_attempts == 0 &&
      aws_lambda_function_event_invoke_config.rotator.destination_config[0].on_failure[0].destination == "arn:aws:sqs:eu-central-1:123456789012:credential-rotator-failures" &&
      aws_sqs_queue.failures.sqs_managed_sse_enabled &&
      aws_sqs_queue.failures.message_retention_seconds == 1209600
    )
    error_message = "Failed events are tried again or lost."
  }
}

run "the_journal_has_the_form_that_the_function_expects_and_is_not_lost" {
  assert {
    condition = (
      aws_dynamodb_table.journal.billing_mode == "PAY_PER_REQUEST" &&
      aws_dynamodb_table.journal.hash_key == "user" &&
      aws_dynamodb_table.journal.range_key == "item" &&
      [for index in aws_dynamodb_table.journal.global_secondary_index : [index.name, index.hash_key, index.range_key, index.projection_type]] == [["in-flight", "in_flight", "user", "ALL"]] &&
      alltrue([for attribute in aws_dynamodb_table.journal.attribute : attribute.type == "S"]) &&
      aws_dynamodb_table.journal.ttl[0].attribute_name == "expires_at" &&
      aws_dynamodb_table.journal.ttl[0].enabled &&
      aws_dynamodb_table.journal.point_in_time_recovery[0].enabled &&
      aws_dynamodb_table.journal.deletion_protection_enabled
    )
    error_message = "The journal is ${jsonencode(aws_dynamodb_table.journal)}."
  }
}

run "a_key_of_your_own_encrypts_all_that_is_kept" {
  variables {
    kms_key_arn         = "arn:aws:kms:eu-central-1:123456789012:key/66666666-7777-8888-9999-000000000000"
    deletion_protection = false
  }
  assert {
    condition = alltrue([for key in [
      aws_dynamodb_table.journal.server_side_encryption[0].kms_key_arn,
      aws_sqs_queue.failures.kms_master_key_id,
      aws_sns_topic.notifications.kms_master_key_id,
      aws_cloudwatch_log_group.rotator.kms_key_id,
    ] : key == var.kms_key_arn]) && aws_dynamodb_table.journal.server_side_encryption[0].enabled
    error_message = "Something is not encrypted with the key that was given."
  }
  assert {
    condition     = !aws_dynamodb_table.journal.deletion_protection_enabled
    error_message = "The journal cannot be destroyed, though deletion_protection is false."
  }
}

run "the_follow_up_sleeps_until_the_function_wakes_it" {
  assert {
    condition = (
      aws_cloudwatch_event_rule.follow_up.schedule_expression == "rate(5 minutes)" &&
      aws_cloudwatch_event_rule.follow_up.state == "DISABLED" &&
      aws_cloudwatch_event_target.follow_up.arn == aws_lambda_function.rotator.arn &&
      aws_cloudwatch_event_target.follow_up.input == "{\"action\":\"follow_up\"}"
    )
    error_message = "The follow-up rule is ${jsonencode(aws_cloudwatch_event_rule.follow_up)}."
  }
}

run "the_token_is_looked_at_daily" {
  assert {
    condition = (
      aws_cloudwatch_event_rule.check_token.name == "credential-rotator-check-token" &&
      aws_cloudwatch_event_rule.check_token.schedule_expression == "rate(1 day)" &&
      aws_cloudwatch_event_target.check_token.arn == aws_lambda_function.rotator.arn &&
      aws_cloudwatch_event_target.check_token.input == "{\"action\":\"check_token\"}"
    )
    error_message = "The rule is ${jsonencode(aws_cloudwatch_event_rule.check_token)}."
  }
}

run "a_token_that_ends_soon_is_told_in_one_sentence" {
  assert {
    condition = jsondecode(aws_cloudwatch_event_rule.token.event_pattern) == {
      source      = ["credential-rotator"]
      detail-type = ["Credential Rotation Token Expiring"]
    }
    error_message = "The rule tells of ${aws_cloudwatch_event_rule.token.event_pattern}."
  }
  assert {
    condition     = aws_cloudwatch_event_target.token.arn == aws_sns_topic.notifications.arn && aws_cloudwatch_event_target.token.input_transformer[0].input_template == "{\"message\": \"<what>\", \"reason\": <reason>}"
    error_message = "The mail says ${aws_cloudwatch_event_target.token.input_transformer[0].input_template}."
  }
}

run "failed_and_held_rotations_are_told_in_one_sentence" {
  variables {
    notification_email = "platform@example.com"
  }
  assert {
    condition = jsondecode(aws_cloudwatch_event_rule.notifications.event_pattern) == {
      source      = ["credential-rotator"]
      detail-type = ["Credential Rotation Failed", "Credential Rotation Held"]
    }
    error_message = "The rule tells of ${aws_cloudwatch_event_rule.notifications.event_pattern}."
  }
  assert {
    condition     = aws_cloudwatch_event_target.notifications.input_transformer[0].input_template == "{\"message\": \"<what>: <user> (GitLab project <project>)\", \"reason\": <reason>}"
    error_message = "The mail says ${aws_cloudwatch_event_target.notifications.input_transformer[0].input_template}."
  }
  assert {
    condition     = [for mail in aws_sns_topic_subscription.mail : [mail.protocol, mail.endpoint]] == [["email", "platform@example.com"]]
    error_message = "The mail goes to ${jsonencode(aws_sns_topic_subscription.mail)}."
  }
}

run "without_an_address_nobody_is_subscribed" {
  assert {
    condition     = length(aws_sns_topic_subscription.mail) == 0
    error_message = "The mail goes to ${jsonencode(aws_sns_topic_subscription.mail)}."
  }
}

run "every_alarm_tells_the_topic_and_watches_what_it_says" {
  variables {
    alarms = { max_age_days = 60, follow_up_hours = 48 }
  }
  assert {
    condition = [for a in [
      aws_cloudwatch_metric_alarm.errors,
      aws_cloudwatch_metric_alarm.failures,
      aws_cloudwatch_metric_alarm.key_age,
      aws_cloudwatch_metric_alarm.follow_up[0],
      aws_cloudwatch_metric_alarm.notifications,
      aws_cloudwatch_metric_alarm.token,
      ] : [a.namespace, a.metric_name, a.dimensions, a.statistic, a.comparison_operator, a.threshold, a.period, a.evaluation_periods, a.treat_missing_data]] == [
      ["AWS/Lambda", "Errors", tomap({ FunctionName = "credential-rotator" }), "Sum", "GreaterThanOrEqualToThreshold", 1, 300, 1, "notBreaching"],
      ["AWS/SQS", "ApproximateNumberOfMessagesVisible", tomap({ QueueName = "credential-rotator-failures" }), "Maximum", "GreaterThanOrEqualToThreshold", 1, 300, 1, "notBreaching"],
      ["CredentialRotator", "PublishedKeyAge", tomap({ Function = "credential-rotator" }), "Maximum", "GreaterThanThreshold", 60, 21600, 5, "missing"],
      ["AWS/Events", "Invocations", tomap({ RuleName = "credential-rotator-follow-up" }), "Sum", "GreaterThanOrEqualToThreshold", 1, 3600, 48, "notBreaching"],
      ["AWS/Events", "FailedInvocations", tomap({ RuleName = "credential-rotator-notifications" }), "Sum", "GreaterThanOrEqualToThreshold", 1, 300, 1, "notBreaching"],
      ["CredentialRotator", "TokenDaysLeft", tomap({ Function = "credential-rotator" }), "Minimum", "LessThanThreshold", 14, 21600, 5, "missing"],
    ]
    error_message = "An alarm watches something else."
  }
  assert {
    condition = alltrue([for a in [
      aws_cloudwatch_metric_alarm.errors,
      aws_cloudwatch_metric_alarm.failures,
      aws_cloudwatch_metric_alarm.key_age,
      aws_cloudwatch_metric_alarm.follow_up[0],
      aws_cloudwatch_metric_alarm.notifications,
      aws_cloudwatch_metric_alarm.token,
    ] : a.alarm_actions == toset([aws_sns_topic.notifications.arn]) && startswith(a.alarm_name, "credential-rotator-")])
    error_message = "An alarm tells nobody, or has a name that the topic's policy does not let in."
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.key_age.datapoints_to_alarm == 1 && aws_cloudwatch_metric_alarm.key_age.insufficient_data_actions == toset([aws_sns_topic.notifications.arn])
    error_message = "One old key, or no age at all, is not told."
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.token.datapoints_to_alarm == 1 && aws_cloudwatch_metric_alarm.token.insufficient_data_actions == toset([aws_sns_topic.notifications.arn])
    error_message = "One look at a token that ends soon, or none at all, is not told."
  }
}

run "long_soaks_need_no_alarm_about_the_follow_up" {
  variables {
    alarms = { follow_up_hours = 0 }
  }
  assert {
    condition     = length(aws_cloudwatch_metric_alarm.follow_up) == 0 && length(jsondecode(aws_cloudwatch_dashboard.rotator.dashboard_body).widgets[0].properties.alarms) == 5
    error_message = "There is an alarm about the follow-up."
  }
}

run "the_dashboard_shows_results_steps_and_ages" {
  assert {
    condition = [for widget in jsondecode(aws_cloudwatch_dashboard.rotator.dashboard_body).widgets : [widget.type, widget.properties.title]] == [
      ["alarm", "Alarms"],
      ["metric", "Runs by result, a day"],
      ["metric", "Time per step, 9 of 10 were faster"],
      ["metric", "Oldest published key"],
      ["log", "Age of each published key, in days"],
      ["metric", "Days until the GitLab token expires"],
    ]
    error_message = "The dashboard is ${aws_cloudwatch_dashboard.rotator.dashboard_body}."
  }
  assert {
    condition     = length(jsondecode(aws_cloudwatch_dashboard.rotator.dashboard_body).widgets[0].properties.alarms) == 6
    error_message = "The dashboard does not show every alarm."
  }
}

run "the_outputs_are_what_others_need" {
  assert {
    condition = (
      output.function_arn == "arn:aws:lambda:eu-central-1:123456789012:function:credential-rotator" &&
      output.function_name == "credential-rotator" &&
      output.user_path == "/gitlab/" &&
      output.role_arn == "arn:aws:iam::123456789012:role/credential-rotator" &&
      output.table_name == "credential-rotator" &&
      output.topic_arn == "arn:aws:sns:eu-central-1:123456789012:credential-rotator-notifications" &&
      output.follow_up_rule_name == "credential-rotator-follow-up" &&
      output.failure_queue_arn == "arn:aws:sqs:eu-central-1:123456789012:credential-rotator-failures"
    )
    error_message = "An output says something else."
  }
}
