# What is refused, before anything is made.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  zip_path                = "main.tf" # any file: nothing looks into it here
  user_path               = "/gitlab/"
  gitlab_token_secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:gitlab/token-AbCdEf"
}

run "a_zip_that_is_not_there" {
  command = plan
  variables {
    zip_path = "dist/nowhere/bootstrap.zip"
  }
  expect_failures = [var.zip_path]
}

run "a_folder_in_place_of_the_zip" {
  command = plan
  variables {
    zip_path = "tests"
  }
  expect_failures = [var.zip_path]
}

run "an_architecture_that_Lambda_does_not_know" {
  command = plan
  variables {
    architecture = "amd64"
  }
  expect_failures = [var.architecture]
}

run "a_name_that_is_too_long_for_what_is_named_after_it" {
  command = plan
  variables {
    name = "credential-rotator-of-the-platform-team-x"
  }
  expect_failures = [var.name]
}

run "a_name_with_a_wildcard" {
  command = plan
  variables {
    name = "credential-*"
  }
  expect_failures = [var.name]
}

run "the_path_of_all_users" {
  command = plan
  variables {
    user_path = "/"
  }
  expect_failures = [var.user_path]
}

run "a_path_that_does_not_begin_with_a_slash" {
  command = plan
  variables {
    user_path = "gitlab/"
  }
  expect_failures = [var.user_path]
}

run "a_path_that_does_not_end_with_a_slash_and_so_is_a_beginning_of_others" {
  command = plan
  variables {
    user_path = "/gitlab"
  }
  expect_failures = [var.user_path]
}

run "a_path_with_a_wildcard" {
  command = plan
  variables {
    user_path = "/*/"
  }
  expect_failures = [var.user_path]
}

run "a_path_with_a_policy_variable" {
  command = plan
  variables {
    user_path = "/$${aws:username}/"
  }
  expect_failures = [var.user_path]
}

run "an_empty_path" {
  command = plan
  variables {
    user_path = ""
  }
  expect_failures = [var.user_path]
}

run "a_path_with_an_empty_folder" {
  command = plan
  variables {
    user_path = "//"
  }
  expect_failures = [var.user_path]
}

run "no_token" {
  command = plan
  variables {
    gitlab_token_secret_arn = null
  }
  expect_failures = [var.gitlab_token_secret_arn]
}

run "two_tokens" {
  command = plan
  variables {
    gitlab_token_parameter_arn = "arn:aws:ssm:eu-central-1:123456789012:parameter/gitlab/token"
  }
  expect_failures = [var.gitlab_token_secret_arn]
}

run "a_token_in_place_of_the_ARN_of_its_secret" {
  command = plan
  variables {
    gitlab_token_secret_arn = "glpat-xxxxxxxxxxxxxxxxxxxx"
  }
  expect_failures = [var.gitlab_token_secret_arn]
}

run "the_name_of_a_secret" {
  command = plan
  variables {
    gitlab_token_secret_arn = "gitlab/token"
  }
  expect_failures = [var.gitlab_token_secret_arn]
}

run "all_secrets" {
  command = plan
  variables {
    gitlab_token_secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:*"
  }
  expect_failures = [var.gitlab_token_secret_arn]
}

run "a_secret_without_the_end_of_its_ARN_which_would_match_none" {
  command = plan
  variables {
    gitlab_token_secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:token"
  }
  expect_failures = [var.gitlab_token_secret_arn]
}

run "all_parameters" {
  command = plan
  variables {
    gitlab_token_secret_arn    = null
    gitlab_token_parameter_arn = "arn:aws:ssm:eu-central-1:123456789012:parameter/*"
  }
  expect_failures = [var.gitlab_token_parameter_arn]
}

run "an_alias_of_a_key_for_the_token" {
  command = plan
  variables {
    gitlab_token_kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:alias/gitlab"
  }
  expect_failures = [var.gitlab_token_kms_key_arn]
}

run "all_keys_for_the_token" {
  command = plan
  variables {
    gitlab_token_kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/*"
  }
  expect_failures = [var.gitlab_token_kms_key_arn]
}

run "the_managed_key_of_SNS_which_EventBridge_may_not_use" {
  command = plan
  variables {
    kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:alias/aws/sns"
  }
  expect_failures = [var.kms_key_arn]
}

run "a_secret_of_another_partition" {
  command = plan
  variables {
    gitlab_token_secret_arn = "arn:aws-us-gov:secretsmanager:eu-central-1:123456789012:secret:gitlab/token-AbCdEf"
  }
  expect_failures = [aws_lambda_function.rotator]
}

run "a_secret_of_another_account" {
  command = plan
  variables {
    gitlab_token_secret_arn = "arn:aws:secretsmanager:eu-central-1:999999999999:secret:gitlab/token-AbCdEf"
  }
  expect_failures = [aws_lambda_function.rotator]
}

run "a_secret_of_another_region" {
  command = plan
  variables {
    gitlab_token_secret_arn = "arn:aws:secretsmanager:us-east-1:123456789012:secret:gitlab/token-AbCdEf"
  }
  expect_failures = [aws_lambda_function.rotator]
}

run "a_parameter_of_another_account" {
  command = plan
  variables {
    gitlab_token_secret_arn    = null
    gitlab_token_parameter_arn = "arn:aws:ssm:eu-central-1:999999999999:parameter/gitlab/token"
  }
  expect_failures = [aws_lambda_function.rotator]
}

run "a_key_for_the_token_of_another_account" {
  command = plan
  variables {
    gitlab_token_kms_key_arn = "arn:aws:kms:eu-central-1:999999999999:key/11111111-2222-3333-4444-555555555555"
  }
  expect_failures = [aws_lambda_function.rotator]
}

run "a_key_for_the_journal_of_another_account" {
  command = plan
  variables {
    kms_key_arn = "arn:aws:kms:eu-central-1:999999999999:key/11111111-2222-3333-4444-555555555555"
  }
  expect_failures = [aws_lambda_function.rotator]
}

run "a_layer_of_another_account_which_could_bring_code_of_its_own" {
  command = plan
  variables {
    ca_layer_arn = "arn:aws:lambda:eu-central-1:999999999999:layer:ca:1"
  }
  expect_failures = [aws_lambda_function.rotator]
}

run "a_layer_without_a_version" {
  command = plan
  variables {
    ca_layer_arn = "arn:aws:lambda:eu-central-1:123456789012:layer:ca"
  }
  expect_failures = [var.ca_layer_arn]
}

run "a_GitLab_without_TLS" {
  command = plan
  variables {
    gitlab_url = "http://gitlab.example.com"
  }
  expect_failures = [var.gitlab_url]
}

run "a_token_in_the_URL_of_GitLab" {
  command = plan
  variables {
    gitlab_url = "https://token:glpat-xxxxxxxxxxxxxxxxxxxx@gitlab.example.com"
  }
  expect_failures = [var.gitlab_url]
}

run "a_VPC_without_subnets" {
  command = plan
  variables {
    vpc = { subnet_ids = [], security_group_ids = ["sg-0a1b2c3d"] }
  }
  expect_failures = [var.vpc]
}

run "a_VPC_without_security_groups" {
  command = plan
  variables {
    vpc = { subnet_ids = ["subnet-0a1b2c3d"], security_group_ids = [] }
  }
  expect_failures = [var.vpc]
}

run "a_subnet_that_is_none" {
  command = plan
  variables {
    vpc = { subnet_ids = ["10.0.0.0/24"], security_group_ids = ["sg-0a1b2c3d"] }
  }
  expect_failures = [var.vpc]
}

run "a_concurrency_of_0_which_would_switch_the_function_off" {
  command = plan
  variables {
    reserved_concurrency = 0
  }
  expect_failures = [var.reserved_concurrency]
}

run "a_concurrency_below_no_limit" {
  command = plan
  variables {
    reserved_concurrency = -2
  }
  expect_failures = [var.reserved_concurrency]
}

run "a_region_to_probe_that_is_none" {
  command = plan
  variables {
    probe_regions = ["eu-central-1", "Frankfurt"]
  }
  expect_failures = [var.probe_regions]
}

run "a_retention_that_CloudWatch_does_not_know" {
  command = plan
  variables {
    logs = { retention_days = 100 }
  }
  expect_failures = [var.logs]
}

run "a_retention_for_ever_by_mistake" {
  command = plan
  variables {
    logs = { retention_days = 0 }
  }
  expect_failures = [var.logs]
}

run "a_log_level_that_is_none" {
  command = plan
  variables {
    logs = { level = "verbose" }
  }
  expect_failures = [var.logs]
}

run "two_mail_addresses_in_one" {
  command = plan
  variables {
    notification_email = "a@example.com, b@example.com"
  }
  expect_failures = [var.notification_email]
}

run "a_mail_address_that_is_none" {
  command = plan
  variables {
    notification_email = "platform team"
  }
  expect_failures = [var.notification_email]
}

run "an_age_of_0_days" {
  command = plan
  variables {
    alarms = { max_age_days = 0 }
  }
  expect_failures = [var.alarms]
}

run "an_age_of_years" {
  command = plan
  variables {
    alarms = { max_age_days = 366 }
  }
  expect_failures = [var.alarms]
}

run "half_a_day" {
  command = plan
  variables {
    alarms = { max_age_days = 0.5 }
  }
  expect_failures = [var.alarms]
}

run "more_hours_than_an_alarm_can_look_back" {
  command = plan
  variables {
    alarms = { follow_up_hours = 169 }
  }
  expect_failures = [var.alarms]
}
