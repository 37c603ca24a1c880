# What is granted: every policy that the module makes, word for word.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  zip_path                = "main.tf" # any file: nothing looks into it here
  user_path               = "/gitlab/"
  gitlab_token_secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:gitlab/token-AbCdEf"
}

run "the_role_may_do_this_and_nothing_else" {
  assert {
    condition = jsondecode(aws_iam_role_policy.rotator.policy) == {
      Version = "2012-10-17"
      Statement = [
        {
          Sid    = "ReplaceTheKeysOfUsersBelowThePath"
          Effect = "Allow"
          Action = [
            "iam:CreateAccessKey",
            "iam:DeleteAccessKey",
            "iam:GetAccessKeyLastUsed",
            "iam:GetUser",
            "iam:ListAccessKeys",
            "iam:ListAttachedUserPolicies",
            "iam:UpdateAccessKey",
          ]
          Resource = "arn:aws:iam::123456789012:user/gitlab/*"
        },
        {
          Sid      = "KeepTheJournal"
          Effect   = "Allow"
          Action   = ["dynamodb:GetItem", "dynamodb:PutItem"]
          Resource = "arn:aws:dynamodb:eu-central-1:123456789012:table/credential-rotator"
        },
        {
          Sid      = "FindRotationsInFlight"
          Effect   = "Allow"
          Action   = "dynamodb:Query"
          Resource = "arn:aws:dynamodb:eu-central-1:123456789012:table/credential-rotator/index/in-flight"
        },
        {
          Sid      = "SwitchTheFollowUpOnAndOff"
          Effect   = "Allow"
          Action   = ["events:DisableRule", "events:EnableRule"]
          Resource = "arn:aws:events:eu-central-1:123456789012:rule/credential-rotator-follow-up"
        },
        {
          Sid       = "TellWhatBecomesOfARotation"
          Effect    = "Allow"
          Action    = "events:PutEvents"
          Resource  = "arn:aws:events:eu-central-1:123456789012:event-bus/default"
          Condition = { StringEquals = { "events:source" = "credential-rotator" } }
        },
        {
          Sid      = "WriteItsOwnLog"
          Effect   = "Allow"
          Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
          Resource = "arn:aws:logs:eu-central-1:123456789012:log-group:/aws/lambda/credential-rotator:*"
        },
        {
          Sid      = "PutFailedEventsIntoTheFailureQueue"
          Effect   = "Allow"
          Action   = "sqs:SendMessage"
          Resource = "arn:aws:sqs:eu-central-1:123456789012:credential-rotator-failures"
        },
        {
          Sid      = "ReadTheGitLabTokenFromItsSecret"
          Effect   = "Allow"
          Action   = "secretsmanager:GetSecretValue"
          Resource = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:gitlab/token-AbCdEf"
        },
      ]
    }
    error_message = "The policy is ${aws_iam_role_policy.rotator.policy}."
  }
}

run "only_Lambda_takes_the_role" {
  assert {
    condition = jsondecode(aws_iam_role.rotator.assume_role_policy) == {
      Version = "2012-10-17"
      Statement = [{
        Sid       = "LambdaMayRunTheFunctionAsThisRole"
        Effect    = "Allow"
        Action    = "sts:AssumeRole"
        Principal = { Service = "lambda.amazonaws.com" }
      }]
    }
    error_message = "The trust policy is ${aws_iam_role.rotator.assume_role_policy}."
  }
}

run "only_the_follow_up_rule_and_that_of_the_token_invoke_the_function" {
  assert {
    condition = (
      aws_lambda_permission.check_token.action == "lambda:InvokeFunction" &&
      aws_lambda_permission.check_token.function_name == "credential-rotator" &&
      aws_lambda_permission.check_token.principal == "events.amazonaws.com" &&
      aws_lambda_permission.check_token.source_arn == "arn:aws:events:eu-central-1:123456789012:rule/credential-rotator-check-token"
    )
    error_message = "Another rule may invoke the function: ${jsonencode(aws_lambda_permission.check_token)}."
  }
  assert {
    condition = (
      aws_lambda_permission.follow_up.action == "lambda:InvokeFunction" &&
      aws_lambda_permission.follow_up.function_name == "credential-rotator" &&
      aws_lambda_permission.follow_up.principal == "events.amazonaws.com" &&
      aws_lambda_permission.follow_up.source_arn == "arn:aws:events:eu-central-1:123456789012:rule/credential-rotator-follow-up"
    )
    error_message = "Another rule may invoke the function: ${jsonencode(aws_lambda_permission.follow_up)}."
  }
}

run "only_EventBridge_and_its_alarms_publish_to_the_topic" {
  assert {
    condition = jsondecode(aws_sns_topic_policy.notifications.policy) == {
      Version = "2012-10-17"
      Statement = [
        {
          Sid       = "EventBridgeMayTellOfRotations"
          Effect    = "Allow"
          Principal = { Service = "events.amazonaws.com" }
          Action    = "sns:Publish"
          Resource  = "arn:aws:sns:eu-central-1:123456789012:credential-rotator-notifications"
        },
        {
          Sid       = "TheAlarmsMayTellOfThemselves"
          Effect    = "Allow"
          Principal = { Service = "cloudwatch.amazonaws.com" }
          Action    = "sns:Publish"
          Resource  = "arn:aws:sns:eu-central-1:123456789012:credential-rotator-notifications"
          Condition = {
            ArnLike      = { "aws:SourceArn" = "arn:aws:cloudwatch:eu-central-1:123456789012:alarm:credential-rotator-*" }
            StringEquals = { "aws:SourceAccount" = "123456789012" }
          }
        },
      ]
    }
    error_message = "The topic's policy is ${aws_sns_topic_policy.notifications.policy}."
  }
}

run "a_parameter_with_a_key_of_its_own_is_read_and_decrypted_and_nothing_else_is" {
  variables {
    gitlab_token_secret_arn    = null
    gitlab_token_parameter_arn = "arn:aws:ssm:eu-central-1:123456789012:parameter/gitlab/token"
    gitlab_token_kms_key_arn   = "arn:aws:kms:eu-central-1:123456789012:key/11111111-2222-3333-4444-555555555555"
  }
  assert {
    condition = slice(jsondecode(aws_iam_role_policy.rotator.policy).Statement, 7, length(jsondecode(aws_iam_role_policy.rotator.policy).Statement)) == [
      {
        Sid      = "ReadTheGitLabTokenFromItsParameter"
        Effect   = "Allow"
        Action   = "ssm:GetParameter"
        Resource = "arn:aws:ssm:eu-central-1:123456789012:parameter/gitlab/token"
      },
      {
        Sid       = "DecryptTheGitLabTokenAndNothingElse"
        Effect    = "Allow"
        Action    = "kms:Decrypt"
        Resource  = "arn:aws:kms:eu-central-1:123456789012:key/11111111-2222-3333-4444-555555555555"
        Condition = { StringEquals = { "kms:EncryptionContext:PARAMETER_ARN" = "arn:aws:ssm:eu-central-1:123456789012:parameter/gitlab/token" } }
      },
    ]
    error_message = "The policy is ${aws_iam_role_policy.rotator.policy}."
  }
}

run "a_secret_with_a_key_of_its_own_is_decrypted_and_nothing_else_is" {
  variables {
    gitlab_token_kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/11111111-2222-3333-4444-555555555555"
  }
  assert {
    condition = slice(jsondecode(aws_iam_role_policy.rotator.policy).Statement, 8, length(jsondecode(aws_iam_role_policy.rotator.policy).Statement)) == [{
      Sid       = "DecryptTheGitLabTokenAndNothingElse"
      Effect    = "Allow"
      Action    = "kms:Decrypt"
      Resource  = "arn:aws:kms:eu-central-1:123456789012:key/11111111-2222-3333-4444-555555555555"
      Condition = { StringEquals = { "kms:EncryptionContext:SecretARN" = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:gitlab/token-AbCdEf" } }
    }]
    error_message = "The policy is ${aws_iam_role_policy.rotator.policy}."
  }
}

run "a_key_of_your_own_is_used_through_the_journal_and_the_queue_only" {
  variables {
    kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/66666666-7777-8888-9999-000000000000"
  }
  assert {
    condition = slice(jsondecode(aws_iam_role_policy.rotator.policy).Statement, 8, length(jsondecode(aws_iam_role_policy.rotator.policy).Statement)) == [{
      Sid       = "UseTheKeyThroughTheJournalAndTheQueueOnly"
      Effect    = "Allow"
      Action    = ["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*"]
      Resource  = "arn:aws:kms:eu-central-1:123456789012:key/66666666-7777-8888-9999-000000000000"
      Condition = { StringLike = { "kms:ViaService" = ["dynamodb.eu-central-1.*", "sqs.eu-central-1.*"] } }
    }]
    error_message = "The policy is ${aws_iam_role_policy.rotator.policy}."
  }
}

run "in_a_VPC_Lambda_may_attach_the_function_and_the_function_may_not" {
  variables {
    vpc = { subnet_ids = ["subnet-0a1b2c3d"], security_group_ids = ["sg-0a1b2c3d"] }
  }
  assert {
    condition = slice(jsondecode(aws_iam_role_policy.rotator.policy).Statement, 8, length(jsondecode(aws_iam_role_policy.rotator.policy).Statement)) == [
      {
        Sid    = "LambdaMayAttachTheFunctionToTheNetwork"
        Effect = "Allow"
        Action = [
          "ec2:AssignPrivateIpAddresses",
          "ec2:CreateNetworkInterface",
          "ec2:DeleteNetworkInterface",
          "ec2:DescribeNetworkInterfaces",
          "ec2:DescribeSubnets",
          "ec2:UnassignPrivateIpAddresses",
        ]
        Resource = "*"
      },
      {
        Sid       = "TheFunctionItselfMayNot"
        Effect    = "Deny"
        Action    = "ec2:*"
        Resource  = "*"
        Condition = { ArnEquals = { "lambda:SourceFunctionArn" = "arn:aws:lambda:eu-central-1:123456789012:function:credential-rotator" } }
      },
    ]
    error_message = "The policy is ${aws_iam_role_policy.rotator.policy}."
  }
}

run "schedules_may_tick_the_function_and_do_nothing_else" {
  assert {
    condition = jsondecode(aws_iam_role.schedules.assume_role_policy) == {
      Version = "2012-10-17"
      Statement = [{
        Sid       = "SchedulerMayActForSchedulesOfThisAccount"
        Effect    = "Allow"
        Action    = "sts:AssumeRole"
        Principal = { Service = "scheduler.amazonaws.com" }
        Condition = { StringEquals = {
          "aws:SourceAccount" = "123456789012"
          "aws:SourceArn"     = "arn:aws:scheduler:eu-central-1:123456789012:schedule-group/default"
        } }
      }]
    }
    error_message = "The trust policy is ${aws_iam_role.schedules.assume_role_policy}."
  }
  assert {
    condition = jsondecode(aws_iam_role_policy.schedules.policy) == {
      Version = "2012-10-17"
      Statement = [{
        Sid      = "TickTheFunction"
        Effect   = "Allow"
        Action   = "lambda:InvokeFunction"
        Resource = "arn:aws:lambda:eu-central-1:123456789012:function:credential-rotator"
      }]
    }
    error_message = "The policy is ${aws_iam_role_policy.schedules.policy}."
  }
}

# Unknown, it would be neither given nor missing to a service-account in the same apply,
# which could not count its roles.
run "the_role_of_the_schedules_is_known_before_it_is_made" {
  command = plan
  assert {
    condition     = output.scheduler_role_arn == "arn:aws:iam::123456789012:role/credential-rotator-schedules"
    error_message = "The output is ${output.scheduler_role_arn}."
  }
}

run "partition_region_and_account_are_those_that_it_is_applied_in" {
  override_data {
    target = data.aws_partition.current
    values = { partition = "aws-cn" }
  }
  override_data {
    target = data.aws_region.current
    values = { id = "cn-north-1", name = "cn-north-1" }
  }
  override_data {
    target = data.aws_caller_identity.current
    values = { account_id = "210987654321" }
  }
  variables {
    name                    = "keys"
    user_path               = "/ci/deploy/"
    gitlab_token_secret_arn = "arn:aws-cn:secretsmanager:cn-north-1:210987654321:secret:gitlab-AbCdEf"
  }
  assert {
    condition     = jsondecode(aws_iam_role_policy.rotator.policy).Statement[0].Resource == "arn:aws-cn:iam::210987654321:user/ci/deploy/*"
    error_message = "The keys of other users are reached: ${aws_iam_role_policy.rotator.policy}."
  }
  assert {
    condition     = jsondecode(aws_iam_role_policy.rotator.policy).Statement[4].Resource == "arn:aws-cn:events:cn-north-1:210987654321:event-bus/default"
    error_message = "Another bus is reached: ${aws_iam_role_policy.rotator.policy}."
  }
  assert {
    condition     = jsondecode(aws_sns_topic_policy.notifications.policy).Statement[1].Condition.ArnLike["aws:SourceArn"] == "arn:aws-cn:cloudwatch:cn-north-1:210987654321:alarm:keys-*"
    error_message = "Other alarms publish to the topic: ${aws_sns_topic_policy.notifications.policy}."
  }
}
