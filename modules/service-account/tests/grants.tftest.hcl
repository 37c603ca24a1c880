# What is granted, word for word.

mock_provider "aws" {
  source = "./tests/aws"
}

variables {
  function_arn = "arn:aws:lambda:eu-central-1:123456789012:function:credential-rotator"
  user_path    = "/rotated/"
  user_name    = "svc-billing"
  project_ids  = [4711]
}

run "the_user_is_bound_to_its_project" {
  variables {
    path                     = "/rotated/shop/"
    policy_arns              = { deploy = "arn:aws:iam::123456789012:policy/shop/deploy", read = "arn:aws:iam::aws:policy/ReadOnlyAccess" }
    permissions_boundary_arn = "arn:aws:iam::123456789012:policy/boundary"
    tags                     = { team = "shop" }
  }

  assert {
    condition     = aws_iam_user.service[0].name == "svc-billing" && aws_iam_user.service[0].path == "/rotated/shop/"
    error_message = "not the user that was asked for"
  }
  assert {
    condition     = aws_iam_user.service[0].tags == tomap({ team = "shop", "credential-rotator:project-ids" = "4711" })
    error_message = "the binding tag is what the rotator obeys"
  }
  assert {
    condition     = aws_iam_user.service[0].permissions_boundary == "arn:aws:iam::123456789012:policy/boundary"
    error_message = "the boundary is missing"
  }
  assert {
    condition     = aws_iam_user.service[0].force_destroy
    error_message = "the keys are not Terraform's: the user could not be removed"
  }
  assert {
    condition     = { for name, a in aws_iam_user_policy_attachment.service : name => [a.user, a.policy_arn] } == { deploy = ["svc-billing", "arn:aws:iam::123456789012:policy/shop/deploy"], read = ["svc-billing", "arn:aws:iam::aws:policy/ReadOnlyAccess"] }
    error_message = "these policies and no others"
  }
}

run "one_rule_may_invoke_the_function" {
  assert {
    condition = jsonencode({ for field, value in aws_lambda_permission.tick[0] : field => value if value != null && field != "id" && field != "statement_id_prefix" }) == jsonencode({
      statement_id  = "rotate-svc-billing"
      action        = "lambda:InvokeFunction"
      function_name = "arn:aws:lambda:eu-central-1:123456789012:function:credential-rotator"
      principal     = "events.amazonaws.com"
      source_arn    = "arn:aws:events:eu-central-1:123456789012:rule/rotate-svc-billing"
    })
    error_message = "EventBridge may invoke the function by this rule and by no other"
  }
  assert {
    condition     = aws_cloudwatch_event_rule.tick[0].event_pattern == null && aws_cloudwatch_event_rule.tick[0].event_bus_name == null
    error_message = "a pattern would let whoever may send events tick the function"
  }
  assert {
    condition     = length(aws_iam_role.invoke) + length(aws_iam_role.scheduler) + length(aws_lambda_alias.invoke) + length(aws_lambda_invocation.first_key) + length(aws_scheduler_schedule.tick) == 0
    error_message = "nobody asked for these"
  }
}

run "the_rule_asks_for_this_user_and_project_only" {
  assert {
    condition     = aws_cloudwatch_event_target.tick[0].input == "{\"project_id\":4711,\"user\":\"svc-billing\"}"
    error_message = "the request is not what was given: ${aws_cloudwatch_event_target.tick[0].input}"
  }
  assert {
    condition     = aws_cloudwatch_event_target.tick[0].arn == "arn:aws:lambda:eu-central-1:123456789012:function:credential-rotator" && aws_cloudwatch_event_target.tick[0].rule == "rotate-svc-billing"
    error_message = "the target is the function"
  }
  assert {
    condition     = aws_cloudwatch_event_target.tick[0].retry_policy[0].maximum_event_age_in_seconds == 21600 && aws_cloudwatch_event_target.tick[0].retry_policy[0].maximum_retry_attempts == 185
    error_message = "a tick that cannot be delivered for six hours is given up"
  }
  assert {
    condition     = output.rule_arn == "arn:aws:events:eu-central-1:123456789012:rule/rotate-svc-billing" && output.schedule_arn == null && output.invoke_role_arn == null && output.invoke_alias_arn == null && output.first_key == null
    error_message = "the outputs are those of a rule"
  }
}

run "every_field_of_the_request_reaches_the_function_in_its_own_type" {
  variables {
    request = {
      environment                = "production"
      environment_scope          = "prod*"
      access_key_id_variable     = "DEPLOY_KEY_ID"
      secret_access_key_variable = "DEPLOY_SECRET"
      redeploy                   = "deployment"
      ref                        = "release/1.0"
      fallback                   = "pipeline"
      max_age_days               = 60
      lead_days                  = 0
      overlap_hours              = 720
      soak_hours                 = "24"
    }
  }

  assert {
    condition = output.request == jsonencode({
      user                       = "svc-billing"
      project_id                 = 4711
      environment                = "production"
      environment_scope          = "prod*"
      access_key_id_variable     = "DEPLOY_KEY_ID"
      secret_access_key_variable = "DEPLOY_SECRET"
      redeploy                   = "deployment"
      ref                        = "release/1.0"
      fallback                   = "pipeline"
      max_age_days               = 60
      lead_days                  = 0
      overlap_hours              = 720
      soak_hours                 = 24
    })
    error_message = "the request is not what was given: ${output.request}"
  }
  assert {
    condition     = aws_cloudwatch_event_target.tick[0].input == output.request
    error_message = "the rule asks for something else"
  }
}

run "a_job_of_one_ref_of_one_project_may_invoke_one_alias" {
  variables {
    gitlab_oidc = {
      provider_arn = "arn:aws:iam::123456789012:oidc-provider/gitlab.example.com"
      audience     = "https://gitlab.example.com"
      project_path = "shop/backend/billing"
    }
  }

  assert {
    condition = jsondecode(aws_iam_role.invoke[0].assume_role_policy) == {
      Version = "2012-10-17"
      Statement = [{
        Sid       = "OneRefOfOneProjectMayAssumeThisRole"
        Effect    = "Allow"
        Principal = { Federated = "arn:aws:iam::123456789012:oidc-provider/gitlab.example.com" }
        Action    = "sts:AssumeRoleWithWebIdentity"
        Condition = {
          StringEquals = {
            "gitlab.example.com:aud" = "https://gitlab.example.com"
            "gitlab.example.com:sub" = "project_path:shop/backend/billing:ref_type:branch:ref:main"
          }
        }
      }]
    }
    error_message = "trusted is one ref of one project: ${aws_iam_role.invoke[0].assume_role_policy}"
  }
  assert {
    condition = jsondecode(aws_iam_role_policy.invoke[0].policy) == {
      Version = "2012-10-17"
      Statement = [{
        Sid      = "RotateThisServiceOnly"
        Effect   = "Allow"
        Action   = "lambda:InvokeFunction"
        Resource = "arn:aws:lambda:eu-central-1:123456789012:function:credential-rotator:service-044421b0d6ba6bda"
      }]
    }
    error_message = "allowed is this alias, and nothing else: ${aws_iam_role_policy.invoke[0].policy}"
  }
  assert {
    condition     = aws_lambda_alias.invoke[0].name == "service-${substr(sha256("svc-billing"), 0, 16)}" && aws_lambda_alias.invoke[0].function_version == "$LATEST"
    error_message = "the function knows its services by this name"
  }
  assert {
    condition     = output.invoke_role_arn == "arn:aws:iam::123456789012:role/mocked" && endswith(output.invoke_alias_arn, ":service-044421b0d6ba6bda")
    error_message = "the CI job needs both"
  }
}

run "a_tag_and_a_gitlab_below_a_path_are_named_in_full" {
  variables {
    gitlab_oidc = {
      provider_arn = "arn:aws:iam::123456789012:oidc-provider/example.com/gitlab"
      audience     = "rotator"
      project_path = "shop/billing"
      ref          = "v1.0"
      ref_type     = "tag"
    }
  }

  assert {
    condition = jsondecode(aws_iam_role.invoke[0].assume_role_policy).Statement[0].Condition == {
      StringEquals = {
        "example.com/gitlab:aud" = "rotator"
        "example.com/gitlab:sub" = "project_path:shop/billing:ref_type:tag:ref:v1.0"
      }
    }
    error_message = aws_iam_role.invoke[0].assume_role_policy
  }
}

run "scheduler_may_invoke_the_function_and_nobody_else_may_use_its_role" {
  variables {
    scheduler = true
  }

  assert {
    condition = jsondecode(aws_iam_role.scheduler[0].assume_role_policy) == {
      Version = "2012-10-17"
      Statement = [{
        Sid       = "SchedulerMayActForSchedulesOfThisAccount"
        Effect    = "Allow"
        Principal = { Service = "scheduler.amazonaws.com" }
        Action    = "sts:AssumeRole"
        Condition = {
          StringEquals = {
            "aws:SourceAccount" = "123456789012"
            "aws:SourceArn"     = "arn:aws:scheduler:eu-central-1:123456789012:schedule-group/default"
          }
        }
      }]
    }
    error_message = "trusted is Scheduler, for this account's schedules: ${aws_iam_role.scheduler[0].assume_role_policy}"
  }
  assert {
    condition = jsondecode(aws_iam_role_policy.scheduler[0].policy) == {
      Version = "2012-10-17"
      Statement = [{
        Sid      = "TickTheRotator"
        Effect   = "Allow"
        Action   = "lambda:InvokeFunction"
        Resource = "arn:aws:lambda:eu-central-1:123456789012:function:credential-rotator"
      }]
    }
    error_message = "allowed is the function, and nothing else: ${aws_iam_role_policy.scheduler[0].policy}"
  }
  assert {
    condition     = aws_scheduler_schedule.tick[0].target[0].input == output.request && aws_scheduler_schedule.tick[0].target[0].role_arn == "arn:aws:iam::123456789012:role/mocked" && aws_scheduler_schedule.tick[0].schedule_expression == output.schedule
    error_message = "the schedule asks what the rule would have asked"
  }
  assert {
    condition     = length(aws_cloudwatch_event_rule.tick) + length(aws_cloudwatch_event_target.tick) + length(aws_lambda_permission.tick) == 0 && output.rule_arn == null && output.schedule_arn != null
    error_message = "a rule would tick as well"
  }
}

run "the_first_key_is_asked_for_once_and_its_secret_is_nowhere" {
  variables {
    make_first_key = true
  }

  assert {
    condition     = aws_lambda_invocation.first_key["svc-billing"].input == output.request && aws_lambda_invocation.first_key["svc-billing"].lifecycle_scope == "CREATE_ONLY"
    error_message = "the first key is made by the request of every other tick, once"
  }
  assert {
    condition     = output.first_key == { status = "rotated", reason = "the user had no key", current_key_id = "AKIAABB24NN6COV5WZX6" }
    error_message = jsonencode(output.first_key)
  }
}
