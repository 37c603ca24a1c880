# What is not about access.

mock_provider "aws" {
  source = "./tests/aws"
}

variables {
  function_arn = "arn:aws:lambda:eu-central-1:123456789012:function:credential-rotator"
  user_path    = "/rotated/"
  user_name    = "svc-billing"
  project_ids  = [4711]
}

run "a_service_ticks_daily_at_a_minute_of_its_own" {
  command = plan

  assert {
    condition     = output.schedule == "cron(56 2 * * ? *)"
    error_message = "the minute moved, and with it the tick of every service: ${output.schedule}"
  }
}

run "another_service_ticks_at_another_minute" {
  command = plan
  variables {
    user_name = "svc-orders"
  }

  assert {
    condition     = output.schedule == "cron(55 4 * * ? *)"
    error_message = output.schedule
  }
}

run "the_user_lives_in_user_path_unless_told_otherwise" {
  command = plan

  assert {
    condition     = aws_iam_user.service[0].path == "/rotated/" && length(aws_iam_user_policy_attachment.service) == 0
    error_message = aws_iam_user.service[0].path
  }
}

run "an_existing_user_is_ticked_and_left_alone" {
  command = plan
  variables {
    create_user = false
  }

  assert {
    condition     = length(aws_iam_user.service) == 0 && output.user_arn == "arn:aws:iam::123456789012:user/rotated/shop/svc-billing" && output.user_name == "svc-billing"
    error_message = "the user is somebody else's"
  }
  assert {
    condition     = aws_cloudwatch_event_target.tick[0].input == "{\"project_id\":4711,\"user\":\"svc-billing\"}"
    error_message = aws_cloudwatch_event_target.tick[0].input
  }
}

run "a_name_that_rules_do_not_allow_is_written_otherwise_and_gets_its_hash" {
  command = plan
  variables {
    user_name = "billing+eu@shop.example"
  }

  assert {
    condition     = aws_cloudwatch_event_rule.tick[0].name == "rotate-billing-eu-shop-example-${substr(sha256("billing+eu@shop.example"), 0, 16)}"
    error_message = aws_cloudwatch_event_rule.tick[0].name
  }
  assert {
    condition     = aws_iam_user.service[0].name == "billing+eu@shop.example" && jsondecode(output.request).user == "billing+eu@shop.example"
    error_message = "the user keeps its name"
  }
}

run "the_longest_name_fits_wherever_it_is_used" {
  command = plan
  variables {
    user_name   = join("", [for i in range(64) : "a"])
    scheduler   = true
    gitlab_oidc = { provider_arn = "arn:aws:iam::123456789012:oidc-provider/gitlab.com", audience = "https://gitlab.com", project_path = "shop/billing" }
  }

  assert {
    condition     = length(aws_scheduler_schedule.tick[0].name) <= 64 && length(aws_iam_role.scheduler[0].name) <= 64 && length(aws_iam_role.invoke[0].name) <= 64
    error_message = "${aws_iam_role.scheduler[0].name} is too long"
  }
}

run "many_services_may_share_one_scheduler_role" {
  command = plan
  variables {
    scheduler          = true
    scheduler_role_arn = "arn:aws:iam::123456789012:role/rotator/tick"
  }

  assert {
    condition     = length(aws_iam_role.scheduler) + length(aws_iam_role_policy.scheduler) == 0 && aws_scheduler_schedule.tick[0].target[0].role_arn == "arn:aws:iam::123456789012:role/rotator/tick"
    error_message = "the role is somebody else's"
  }
}

run "ninety_days_are_a_schedule_when_the_lead_is_as_long" {
  command = plan
  variables {
    schedule = "rate(90 days)"
    request  = { max_age_days = 180, lead_days = 90 }
  }

  assert {
    condition     = aws_cloudwatch_event_rule.tick[0].schedule_expression == "rate(90 days)"
    error_message = output.schedule
  }
}

run "once_a_day_is_a_schedule" {
  command = plan
  variables {
    schedule = "rate(1 day)"
  }

  assert {
    condition     = output.schedule == "rate(1 day)"
    error_message = output.schedule
  }
}

run "every_five_minutes_is_a_schedule" {
  command = plan
  variables {
    schedule = "rate(5 minutes)"
  }

  assert {
    condition     = output.schedule == "rate(5 minutes)"
    error_message = output.schedule
  }
}

run "on_weekdays_is_a_schedule" {
  command = plan
  variables {
    schedule = "cron(0 6 ? * MON-FRI *)"
  }

  assert {
    condition     = output.schedule == "cron(0 6 ? * MON-FRI *)"
    error_message = output.schedule
  }
}

run "on_the_last_day_of_the_month_is_a_schedule" {
  command = plan
  variables {
    schedule = "cron(0 6 L * ? *)"
  }

  assert {
    condition     = output.schedule == "cron(0 6 L * ? *)"
    error_message = output.schedule
  }
}

run "on_the_first_monday_is_a_schedule" {
  command = plan
  variables {
    schedule = "cron(0 6 ? * 2#1 *)"
  }

  assert {
    condition     = output.schedule == "cron(0 6 ? * 2#1 *)"
    error_message = output.schedule
  }
}

run "on_the_weekday_nearest_to_the_15th_is_a_schedule" {
  command = plan
  variables {
    schedule = "cron(0 6 15W * ? *)"
  }

  assert {
    condition     = output.schedule == "cron(0 6 15W * ? *)"
    error_message = output.schedule
  }
}

run "twice_a_day_in_some_months_is_a_schedule" {
  command = plan
  variables {
    schedule = "cron(15 8,20 * JAN,7-9 ? 2026-2030)"
  }

  assert {
    condition     = output.schedule == "cron(15 8,20 * JAN,7-9 ? 2026-2030)"
    error_message = output.schedule
  }
}

run "every_ten_minutes_is_a_schedule" {
  command = plan
  variables {
    schedule = "cron(0/10 * ? * * *)"
  }

  assert {
    condition     = output.schedule == "cron(0/10 * ? * * *)"
    error_message = output.schedule
  }
}
