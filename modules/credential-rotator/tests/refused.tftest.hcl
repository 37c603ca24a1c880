# What is refused, before anything is made: whatever would widen what the function may do,
# and mistakes that would else be found by the first rotation.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  zip_path                = "main.tf" # any file: nothing looks into it here
  user_path               = "/gitlab/"
  gitlab_token_secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:gitlab/token-AbCdEf"
}

run "a_wildcard_wherever_it_would_widen_what_is_reached" {
  command = plan
  variables {
    name                     = "credential-*"
    user_path                = "/*/"
    gitlab_token_secret_arn  = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:*"
    gitlab_token_kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/*"
    kms_key_arn              = "arn:aws:kms:eu-central-1:123456789012:key/*"
    ca_layer_arn             = "arn:aws:lambda:eu-central-1:123456789012:layer:*:1"
  }
  expect_failures = [var.name, var.user_path, var.gitlab_token_secret_arn, var.gitlab_token_kms_key_arn, var.kms_key_arn, var.ca_layer_arn]
}

run "a_wildcard_in_the_parameter" {
  command = plan
  variables {
    gitlab_token_secret_arn    = null
    gitlab_token_parameter_arn = "arn:aws:ssm:eu-central-1:123456789012:parameter/*"
  }
  expect_failures = [var.gitlab_token_parameter_arn]
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

run "a_path_that_does_not_end_with_a_slash_and_so_begins_others" {
  command = plan
  variables {
    user_path = "/gitlab"
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

run "no_path" {
  command = plan
  variables {
    user_path = ""
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

run "the_token_itself_which_would_be_in_the_state" {
  command = plan
  variables {
    gitlab_token_secret_arn = "glpat-xxxxxxxxxxxxxxxxxxxx"
    gitlab_url              = "https://token:glpat-xxxxxxxxxxxxxxxxxxxx@gitlab.example.com"
  }
  expect_failures = [var.gitlab_token_secret_arn, var.gitlab_url]
}

run "names_and_aliases_in_place_of_ARNs" {
  command = plan
  variables {
    gitlab_token_secret_arn  = "gitlab/token"
    gitlab_token_kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:alias/gitlab"
    kms_key_arn              = "arn:aws:kms:eu-central-1:123456789012:alias/aws/sns"
    ca_layer_arn             = "arn:aws:lambda:eu-central-1:123456789012:layer:ca"
  }
  expect_failures = [var.gitlab_token_secret_arn, var.gitlab_token_kms_key_arn, var.kms_key_arn, var.ca_layer_arn]
}

run "the_name_of_a_parameter" {
  command = plan
  variables {
    gitlab_token_secret_arn    = null
    gitlab_token_parameter_arn = "/gitlab/token"
  }
  expect_failures = [var.gitlab_token_parameter_arn]
}

run "an_ARN_without_the_six_characters_of_the_secret_which_would_match_none" {
  command = plan
  variables {
    gitlab_token_secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:token"
  }
  expect_failures = [var.gitlab_token_secret_arn]
}

run "a_secret_of_another_partition" {
  command = plan
  variables {
    gitlab_token_secret_arn = "arn:aws-us-gov:secretsmanager:eu-central-1:123456789012:secret:gitlab/token-AbCdEf"
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

run "a_secret_of_another_account" {
  command = plan
  variables {
    gitlab_token_secret_arn = "arn:aws:secretsmanager:eu-central-1:999999999999:secret:gitlab/token-AbCdEf"
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

run "words_that_are_none" {
  command = plan
  variables {
    architecture       = "amd64"
    probe_regions      = ["eu-central-1", "Frankfurt"]
    logs               = { level = "verbose" }
    notification_email = "platform team"
    vpc                = { subnet_ids = ["10.0.0.0/24"], security_group_ids = ["sg-0a1b2c3d"] }
    gitlab_url         = "http://gitlab.example.com"
  }
  expect_failures = [var.architecture, var.probe_regions, var.logs, var.notification_email, var.vpc, var.gitlab_url]
}

run "too_little" {
  command = plan
  variables {
    reserved_concurrency = -2
    alarms               = { max_age_days = 0 }
    logs                 = { retention_days = 0 }
    vpc                  = { subnet_ids = [], security_group_ids = ["sg-0a1b2c3d"] }
  }
  expect_failures = [var.reserved_concurrency, var.alarms, var.logs, var.vpc]
}

run "too_much" {
  command = plan
  variables {
    name               = "credential-rotator-of-the-platform-team-x"
    alarms             = { max_age_days = 366 }
    logs               = { retention_days = 100 }
    notification_email = "a@example.com, b@example.com"
  }
  expect_failures = [var.name, var.alarms, var.logs, var.notification_email]
}

run "a_concurrency_of_0_which_would_switch_the_function_off" {
  command = plan
  variables {
    reserved_concurrency = 0
  }
  expect_failures = [var.reserved_concurrency]
}

run "a_VPC_without_security_groups" {
  command = plan
  variables {
    vpc = { subnet_ids = ["subnet-0a1b2c3d"], security_group_ids = [] }
  }
  expect_failures = [var.vpc]
}

run "more_hours_than_an_alarm_can_look_back" {
  command = plan
  variables {
    alarms = { follow_up_hours = 169 }
  }
  expect_failures = [var.alarms]
}

run "halves" {
  command = plan
  variables {
    alarms               = { max_age_days = 0.5 }
    reserved_concurrency = 1.5
  }
  expect_failures = [var.alarms, var.reserved_concurrency]
}
