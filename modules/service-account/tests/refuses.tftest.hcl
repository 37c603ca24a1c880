# What would widen access, or fail in the night, is refused when it is planned. Each run
# loads the provider, so one run holds a wrong value for each of several variables; every
# one of them must be refused.

mock_provider "aws" {
  source = "./tests/aws"
}

variables {
  function_arn = "arn:aws:lambda:eu-central-1:123456789012:function:credential-rotator"
  user_path    = "/rotated/"
  user_name    = "svc-billing"
  project_ids  = [4711]
}

run "wildcards" {
  command = plan
  variables {
    function_arn = "arn:aws:lambda:eu-central-1:123456789012:function:*"
    user_path    = "/rot*/"
    user_name    = "svc-*"
    policy_arns  = { deploy = "arn:aws:iam::123456789012:policy/*" }
    project_ids  = ["*"]
    gitlab_oidc = {
      provider_arn = "arn:aws:iam::123456789012:oidc-provider/gitlab.com"
      audience     = "https://gitlab.com"
      project_path = "shop/*"
    }
    scheduler          = true
    scheduler_role_arn = "arn:aws:iam::123456789012:role/*"
  }
  expect_failures = [var.function_arn, var.user_path, var.user_name, var.policy_arns, var.project_ids, var.gitlab_oidc, var.scheduler_role_arn]
}

run "question_marks_and_hidden_wildcards" {
  command = plan
  variables {
    user_name   = "svc-billin?"
    project_ids = ["4711 *"]
    gitlab_oidc = {
      provider_arn = "arn:aws:iam::123456789012:oidc-provider/gitlab.com"
      audience     = "https://gitlab.com"
      project_path = "shop/billing"
      ref          = "*"
    }
    path = "/rotated/*/"
  }
  expect_failures = [var.user_name, var.project_ids, var.gitlab_oidc, var.path]
}

run "policy_variables" {
  command = plan
  variables {
    user_path = "/$${aws:username}/"
    gitlab_oidc = {
      provider_arn = "arn:aws:iam::123456789012:oidc-provider/gitlab.com"
      audience     = "https://gitlab.com"
      project_path = "shop/$${aws:username}"
    }
  }
  expect_failures = [var.user_path, var.gitlab_oidc]
}

run "a_policy_variable_as_the_ref" {
  command = plan
  variables {
    gitlab_oidc = {
      provider_arn = "arn:aws:iam::123456789012:oidc-provider/gitlab.com"
      audience     = "https://gitlab.com"
      project_path = "shop/billing"
      ref          = "$${aws:username}"
    }
  }
  expect_failures = [var.gitlab_oidc]
}

run "arns_of_another_account" {
  command = plan
  variables {
    function_arn             = "arn:aws:lambda:eu-central-1:999999999999:function:credential-rotator"
    policy_arns              = { deploy = "arn:aws:iam::999999999999:policy/deploy" }
    permissions_boundary_arn = "arn:aws:iam::999999999999:policy/boundary"
    scheduler                = true
    scheduler_role_arn       = "arn:aws:iam::999999999999:role/tick"
    gitlab_oidc = {
      provider_arn = "arn:aws:iam::999999999999:oidc-provider/gitlab.com"
      audience     = "https://gitlab.com"
      project_path = "shop/billing"
    }
  }
  expect_failures = [var.function_arn, var.policy_arns, var.permissions_boundary_arn, var.scheduler_role_arn, var.gitlab_oidc]
}

run "arns_of_another_partition" {
  command = plan
  variables {
    function_arn = "arn:aws-cn:lambda:eu-central-1:123456789012:function:credential-rotator"
    policy_arns  = { deploy = "arn:aws-us-gov:iam::aws:policy/ReadOnlyAccess" }
    gitlab_oidc = {
      provider_arn = "arn:aws-cn:iam::123456789012:oidc-provider/gitlab.com"
      audience     = "https://gitlab.com"
      project_path = "shop/billing"
    }
  }
  expect_failures = [var.function_arn, var.policy_arns, var.gitlab_oidc]
}

run "a_function_of_another_region" {
  command = plan
  variables {
    function_arn = "arn:aws:lambda:us-east-1:123456789012:function:credential-rotator"
  }
  expect_failures = [var.function_arn]
}

run "an_alias_and_every_job_anywhere" {
  command = plan
  variables {
    function_arn = "arn:aws:lambda:eu-central-1:123456789012:function:credential-rotator:live"
    gitlab_oidc = {
      provider_arn = "arn:aws:iam::123456789012:oidc-provider/gitlab.com"
      audience     = "https://gitlab.com"
      project_path = "*"
    }
    user_name   = ""
    project_ids = [-4711]
  }
  expect_failures = [var.function_arn, var.gitlab_oidc, var.user_name, var.project_ids]
}

run "a_version_and_some_branches" {
  command = plan
  variables {
    function_arn = "arn:aws:lambda:eu-central-1:123456789012:function:credential-rotator:7"
    gitlab_oidc = {
      provider_arn = "arn:aws:iam::123456789012:oidc-provider/gitlab.com"
      audience     = "https://gitlab.com"
      project_path = "shop/billing"
      ref          = "release/*"
    }
    user_name   = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    project_ids = [4711.5]
  }
  expect_failures = [var.function_arn, var.gitlab_oidc, var.user_name, var.project_ids]
}

run "names_and_paths_where_ids_belong" {
  command = plan
  variables {
    function_arn = "credential-rotator"
    policy_arns  = { deploy = "ReadOnlyAccess" }
    user_name    = "arn:aws:iam::123456789012:user/svc-billing"
    project_ids  = ["shop/billing"]
    gitlab_oidc = {
      provider_arn = "arn:aws:iam::123456789012:saml-provider/gitlab"
      audience     = "https://gitlab.com"
      project_path = "shop/billing"
    }
    scheduler_role_arn = "arn:aws:iam::123456789012:role/tick"
  }
  expect_failures = [var.function_arn, var.policy_arns, var.user_name, var.project_ids, var.gitlab_oidc, var.scheduler_role_arn]
}

run "a_url_where_a_path_belongs" {
  command = plan
  variables {
    user_name = "shop/svc-billing"
    gitlab_oidc = {
      provider_arn = "arn:aws:iam::123456789012:oidc-provider/gitlab.com"
      audience     = "https://gitlab.com"
      project_path = "https://gitlab.com/shop/billing"
    }
  }
  expect_failures = [var.user_name, var.gitlab_oidc]
}

run "the_path_of_all_users" {
  command = plan
  variables {
    user_path = "/"
    gitlab_oidc = {
      provider_arn = "arn:aws:iam::123456789012:oidc-provider/*"
      audience     = "https://gitlab.com"
      project_path = "shop/billing"
    }
    tags = { "credential-rotator:project-ids" = "1" }
  }
  expect_failures = [var.user_path, var.gitlab_oidc, var.tags]
}

run "a_user_path_without_its_last_slash" {
  command = plan
  variables {
    user_path = "/rotated"
    gitlab_oidc = {
      provider_arn = "arn:aws:iam::123456789012:oidc-provider/gitlab.com"
      audience     = "*"
      project_path = "shop/billing"
    }
    tags      = { "Credential-Rotator:Project-Ids" = "1" }
    user_name = "svc-billing\n"
  }
  expect_failures = [var.user_path, var.gitlab_oidc, var.tags, var.user_name]
}

run "a_path_beside_user_path" {
  command = plan
  variables {
    path        = "/elsewhere/"
    project_ids = []
    gitlab_oidc = {
      provider_arn = "arn:aws:iam::123456789012:oidc-provider/gitlab.com"
      audience     = "https://gitlab.com"
      project_path = "shop"
    }
  }
  expect_failures = [var.path, var.project_ids, var.gitlab_oidc]
}

run "a_path_that_only_begins_like_user_path" {
  command = plan
  variables {
    path        = "/rotated-not/"
    project_ids = [4711, 4712]
    gitlab_oidc = {
      provider_arn = "arn:aws:iam::123456789012:oidc-provider/gitlab.com"
      audience     = "https://gitlab.com"
      project_path = "shop/billing:ref_type:branch:ref:main"
    }
  }
  expect_failures = [var.path, var.project_ids, var.gitlab_oidc]
}

run "a_path_above_user_path" {
  command = plan
  variables {
    path        = "/"
    project_ids = range(1, 301)
    gitlab_oidc = {
      provider_arn = "arn:aws:iam::123456789012:oidc-provider/gitlab.com"
      audience     = "https://gitlab.com"
      project_path = "shop/billing"
      ref_type     = "*"
    }
    policy_arns = { for i in range(21) : "p${i}" => "arn:aws:iam::123456789012:policy/p${i}" }
  }
  expect_failures = [var.path, var.project_ids, var.gitlab_oidc, var.policy_arns]
}

run "project_0_and_a_merge_request" {
  command = plan
  variables {
    project_ids = [0]
    gitlab_oidc = {
      provider_arn = "arn:aws:iam::123456789012:oidc-provider/gitlab.com"
      audience     = "https://gitlab.com"
      project_path = "shop/billing"
      ref_type     = "merge_request"
    }
  }
  expect_failures = [var.project_ids, var.gitlab_oidc]
}

run "a_path_policies_and_a_boundary_for_an_existing_user" {
  command = plan
  variables {
    path                     = "/rotated/shop/"
    create_user              = false
    policy_arns              = { deploy = "arn:aws:iam::123456789012:policy/deploy" }
    permissions_boundary_arn = "arn:aws:iam::123456789012:policy/boundary"
  }
  expect_failures = [var.path, var.policy_arns, var.permissions_boundary_arn]
}

# A wrong request and a wrong schedule at a time.

run "a_mistyped_field_and_a_schedule_in_words" {
  command = plan
  variables {
    request  = { soak_hour = 24 }
    schedule = "every day"
  }
  expect_failures = [var.request, var.schedule]
}

run "force_every_night_and_no_schedule" {
  command = plan
  variables {
    request  = { force = "true" }
    schedule = ""
  }
  expect_failures = [var.request, var.schedule]
}

run "retire_key_every_night_and_one_instant" {
  command = plan
  variables {
    request  = { retire_key = "AKIAABB24NN6COV5WZX6" }
    schedule = "at(2027-01-01T00:00:00)"
  }
  expect_failures = [var.request, var.schedule]
}

run "another_user_in_the_request_and_one_days" {
  command = plan
  variables {
    request  = { user = "svc-other" }
    schedule = "rate(1 days)"
  }
  expect_failures = [var.request, var.schedule]
}

run "another_project_in_the_request_and_ninety_day" {
  command = plan
  variables {
    request  = { project_id = 1 }
    schedule = "rate(90 day)"
  }
  expect_failures = [var.request, var.schedule]
}

run "null_in_the_request_and_a_rate_of_nothing" {
  command = plan
  variables {
    request  = { ref = null }
    schedule = "rate(0 days)"
  }
  expect_failures = [var.request, var.schedule]
}

run "max_age_of_no_day_and_a_rate_in_weeks" {
  command = plan
  variables {
    request  = { max_age_days = 0 }
    schedule = "rate(2 weeks)"
  }
  expect_failures = [var.request, var.schedule]
}

run "max_age_of_more_than_a_year_and_a_rate_without_a_space" {
  command = plan
  variables {
    request  = { max_age_days = 366 }
    schedule = "rate(1day)"
  }
  expect_failures = [var.request, var.schedule]
}

run "max_age_in_words_and_a_rate_and_a_half" {
  command = plan
  variables {
    request  = { max_age_days = "ninety" }
    schedule = "rate(1.5 days)"
  }
  expect_failures = [var.request, var.schedule]
}

run "max_age_and_a_half_and_a_rate_with_a_leading_zero" {
  command = plan
  variables {
    request  = { max_age_days = 89.5 }
    schedule = "rate(01 day)"
  }
  expect_failures = [var.request, var.schedule]
}

run "a_negative_lead_and_a_rate_in_capitals" {
  command = plan
  variables {
    request  = { lead_days = -1 }
    schedule = "RATE(1 day)"
  }
  expect_failures = [var.request, var.schedule]
}

run "a_lead_as_long_as_the_age_and_a_cron_of_five_fields" {
  command = plan
  variables {
    request  = { max_age_days = 30, lead_days = 30 }
    schedule = "cron(0 4 * * *)"
  }
  expect_failures = [var.request, var.schedule]
}

run "an_age_as_short_as_the_default_lead_and_a_cron_of_seven_fields" {
  command = plan
  variables {
    request  = { max_age_days = 7 }
    schedule = "cron(0 0 4 * * ? *)"
  }
  expect_failures = [var.request, var.schedule]
}

run "an_overlap_of_more_than_a_month_and_a_cron_with_both_days" {
  command = plan
  variables {
    request  = { overlap_hours = 721 }
    schedule = "cron(0 4 * * * *)"
  }
  expect_failures = [var.request, var.schedule]
}

run "a_soak_of_more_than_a_month_and_a_cron_with_neither_day" {
  command = plan
  variables {
    request  = { soak_hours = 721 }
    schedule = "cron(0 4 ? * ? *)"
  }
  expect_failures = [var.request, var.schedule]
}

run "a_key_id_variable_with_a_dash_and_minute_60" {
  command = plan
  variables {
    request  = { access_key_id_variable = "AWS-ACCESS-KEY-ID" }
    schedule = "cron(60 4 * * ? *)"
  }
  expect_failures = [var.request, var.schedule]
}

run "a_secret_variable_of_256_characters_and_hour_24" {
  command = plan
  variables {
    request  = { secret_access_key_variable = join("", [for i in range(256) : "A"]) }
    schedule = "cron(0 24 * * ? *)"
  }
  expect_failures = [var.request, var.schedule]
}

run "one_variable_for_both_and_the_day_0" {
  command = plan
  variables {
    request  = { access_key_id_variable = "AWS_SECRET_ACCESS_KEY" }
    schedule = "cron(0 4 0 * ? *)"
  }
  expect_failures = [var.request, var.schedule]
}

run "no_environment_scope_and_the_month_13" {
  command = plan
  variables {
    request  = { environment_scope = "" }
    schedule = "cron(0 4 * 13 ? *)"
  }
  expect_failures = [var.request, var.schedule]
}

run "an_environment_scope_of_two_lines_and_weekday_8" {
  command = plan
  variables {
    request  = { environment_scope = "production\nstaging" }
    schedule = "cron(0 4 ? * 8 *)"
  }
  expect_failures = [var.request, var.schedule]
}

run "an_environment_of_two_lines_and_the_year_3000" {
  command = plan
  variables {
    request  = { environment = "production\nstaging" }
    schedule = "cron(0 4 * * ? 3000)"
  }
  expect_failures = [var.request, var.schedule]
}

run "a_ref_with_a_wildcard_and_a_cron_in_words" {
  command = plan
  variables {
    request  = { ref = "release/*" }
    schedule = "cron(bad)"
  }
  expect_failures = [var.request, var.schedule]
}

run "a_ref_like_an_option_and_a_cron_with_two_spaces" {
  command = plan
  variables {
    request  = { ref = "-f" }
    schedule = "cron(0  4 * * ? *)"
  }
  expect_failures = [var.request, var.schedule]
}

run "another_way_to_redeploy_and_a_schedule_with_something_behind" {
  command = plan
  variables {
    request  = { redeploy = "hope" }
    schedule = "cron(0 4 * * ? *) rate(1 day)"
  }
  expect_failures = [var.request, var.schedule]
}

run "no_redeploy_and_no_overlap" {
  command = plan
  variables {
    request = { redeploy = "none" }
  }
  expect_failures = [var.request]
}

run "a_deployment_of_no_environment" {
  command = plan
  variables {
    request = { redeploy = "deployment" }
  }
  expect_failures = [var.request]
}

run "a_fallback_of_a_pipeline" {
  command = plan
  variables {
    request = { fallback = "pipeline" }
  }
  expect_failures = [var.request]
}

run "another_fallback" {
  command = plan
  variables {
    request = { redeploy = "deployment", environment = "production", fallback = "none" }
  }
  expect_failures = [var.request]
}

run "an_existing_user_outside_of_user_path" {
  command = plan
  variables {
    create_user = false
  }
  override_data {
    target = data.aws_iam_user.existing
    values = {
      arn  = "arn:aws:iam::123456789012:user/elsewhere/svc-billing"
      path = "/elsewhere/"
      tags = { "credential-rotator:project-ids" = "4711" }
    }
  }
  expect_failures = [data.aws_iam_user.existing]
}

run "an_existing_user_in_another_spelling" {
  command = plan
  variables {
    create_user = false
    user_name   = "SVC-Billing"
  }
  expect_failures = [data.aws_iam_user.existing]
}

# What follows is a warning and no error.

run "an_existing_user_without_the_binding_is_told_of" {
  command = plan
  variables {
    create_user = false
  }
  override_data {
    target = data.aws_iam_user.existing
    values = {
      arn  = "arn:aws:iam::123456789012:user/rotated/svc-billing"
      path = "/rotated/"
      tags = {}
    }
  }
  expect_failures = [check.existing_user_is_bound]
}

run "an_existing_user_of_another_project_is_told_of" {
  command = plan
  variables {
    create_user = false
    project_ids = [4712]
  }
  expect_failures = [check.existing_user_is_bound]
}

run "ticks_further_apart_than_the_lead_are_told_of" {
  command = plan
  variables {
    schedule = "rate(90 days)"
  }
  expect_failures = [check.ticks_come_before_a_key_is_too_old]
}
