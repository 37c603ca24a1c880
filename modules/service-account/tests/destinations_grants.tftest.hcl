# Where the key of a service with several places goes, word for word.

mock_provider "aws" {
  source = "./tests/aws"
}

variables {
  function_arn = "arn:aws:lambda:eu-central-1:123456789012:function:credential-rotator"
  user_path    = "/rotated/"
  user_name    = "svc-billing"
}

run "two_projects" {
  variables {
    project_ids = [4711, 4712]
    request     = { soak_hours = 24 }
    destinations = [
      { project_id = 4711, environment = "production" },
      { project_id = "4712", redeploy = "deployment", environment = "live", fallback = "live_commit" },
    ]
  }

  assert {
    condition     = aws_cloudwatch_event_target.tick[0].input == "{\"destinations\":[{\"environment\":\"production\",\"project_id\":4711},{\"environment\":\"live\",\"fallback\":\"live_commit\",\"project_id\":4712,\"redeploy\":\"deployment\"}],\"soak_hours\":24,\"user\":\"svc-billing\"}"
    error_message = aws_cloudwatch_event_target.tick[0].input
  }
  assert {
    condition     = aws_iam_user.service[0].tags == tomap({ "credential-rotator:project-ids" = "4711 4712" })
    error_message = "the user is bound to these two: ${jsonencode(aws_iam_user.service[0].tags)}"
  }
}

run "a_group_with_three_redeploys" {
  variables {
    group_ids = [9]
    destinations = [{
      group_id = 9
      redeploys = [
        { project_id = 4711, environment = "production" },
        { project_id = 4712, redeploy = "deployment", environment = "production" },
        { project_id = 4713, ref = "release" },
      ]
    }]
  }

  assert {
    condition     = aws_cloudwatch_event_target.tick[0].input == "{\"destinations\":[{\"group_id\":9,\"redeploys\":[{\"environment\":\"production\",\"project_id\":4711},{\"environment\":\"production\",\"project_id\":4712,\"redeploy\":\"deployment\"},{\"project_id\":4713,\"ref\":\"release\"}]}],\"user\":\"svc-billing\"}"
    error_message = aws_cloudwatch_event_target.tick[0].input
  }
  assert {
    condition     = aws_iam_user.service[0].tags == tomap({ "credential-rotator:project-ids" = "group:9" })
    error_message = "the user is bound to the group, and to none of its projects: ${jsonencode(aws_iam_user.service[0].tags)}"
  }
}

run "staging_then_production_in_one_project" {
  variables {
    project_ids = [4711]
    destinations = [{
      project_id = 4711
      redeploys = [
        { environment = "staging", inputs = { target = "staging", replicas = 1, dry_run = false } },
        { environment = "production", inputs = { target = "production", zones = ["a", "b"] } },
      ]
    }]
  }

  assert {
    condition     = aws_cloudwatch_event_target.tick[0].input == "{\"destinations\":[{\"project_id\":4711,\"redeploys\":[{\"environment\":\"staging\",\"inputs\":{\"dry_run\":false,\"replicas\":1,\"target\":\"staging\"}},{\"environment\":\"production\",\"inputs\":{\"target\":\"production\",\"zones\":[\"a\",\"b\"]}}]}],\"user\":\"svc-billing\"}"
    error_message = aws_cloudwatch_event_target.tick[0].input
  }
  assert {
    condition     = aws_iam_user.service[0].tags == tomap({ "credential-rotator:project-ids" = "4711" })
    error_message = "the user is bound to one project: ${jsonencode(aws_iam_user.service[0].tags)}"
  }
}

run "every_field_of_a_destination_reaches_the_function" {
  variables {
    project_ids = [4711, 4712]
    group_ids   = [9]
    request     = { max_age_days = 60, lead_days = 0, overlap_hours = 720, soak_hours = 0 }
    destinations = [
      { project_id = 4711, environment_scope = "prod*", access_key_id_variable = "DEPLOY_KEY_ID", secret_access_key_variable = "DEPLOY_SECRET", redeploy = "pipeline", ref = "release/1.0", environment = "production", inputs = { region = "eu" } },
      { project_id = 4712, credentials_file_variable = "AWS_SHARED_CREDENTIALS_FILE", profile = "deploy", allow_unmasked = true, redeploy = "deployment", environment = "production", fallback = "pipeline", inputs = {} },
      { group_id = 9, redeploy = "none" },
    ]
  }

  assert {
    condition = output.request == jsonencode({
      user = "svc-billing"
      destinations = [
        { project_id = 4711, environment_scope = "prod*", access_key_id_variable = "DEPLOY_KEY_ID", secret_access_key_variable = "DEPLOY_SECRET", redeploy = "pipeline", ref = "release/1.0", environment = "production", inputs = { region = "eu" } },
        { project_id = 4712, credentials_file_variable = "AWS_SHARED_CREDENTIALS_FILE", profile = "deploy", allow_unmasked = true, redeploy = "deployment", environment = "production", fallback = "pipeline", inputs = {} },
        { group_id = 9, redeploy = "none" },
      ]
      max_age_days  = 60
      lead_days     = 0
      overlap_hours = 720
      soak_hours    = 0
    })
    error_message = output.request
  }
  assert {
    condition     = aws_iam_user.service[0].tags == tomap({ "credential-rotator:project-ids" = "4711 4712 group:9" })
    error_message = jsonencode(aws_iam_user.service[0].tags)
  }
}

run "what_terraform_has_made_strings_of_has_its_type_again" {
  command = plan
  variables {
    project_ids  = [4711]
    destinations = tolist([tomap({ project_id = 4711, credentials_file_variable = "AWS_SHARED_CREDENTIALS_FILE", allow_unmasked = true })])
  }

  assert {
    condition     = output.request == "{\"destinations\":[{\"allow_unmasked\":true,\"credentials_file_variable\":\"AWS_SHARED_CREDENTIALS_FILE\",\"project_id\":4711}],\"user\":\"svc-billing\"}"
    error_message = output.request
  }
}

run "twenty_places_are_a_service" {
  command = plan
  variables {
    project_ids  = range(1, 11)
    group_ids    = range(1, 11)
    request      = { overlap_hours = 24 }
    destinations = concat([for id in range(1, 11) : { project_id = id }], [for id in range(1, 11) : { group_id = id, redeploy = "none" }])
  }

  assert {
    condition     = length(jsondecode(output.request).destinations) == 20 && length(aws_iam_user.service[0].tags["credential-rotator:project-ids"]) <= 256
    error_message = output.request
  }
}

run "scheduler_sends_more_than_a_rule" {
  command = plan
  variables {
    scheduler    = true
    project_ids  = [4711]
    destinations = [{ project_id = 4711, inputs = { text = join("", [for i in range(820) : "0123456789"]) } }]
  }

  assert {
    condition     = aws_scheduler_schedule.tick[0].target[0].input == output.request && length(output.request) > 8192
    error_message = "the schedule asks for something else"
  }
}

run "the_live_commit_of_one_project" {
  command = plan
  variables {
    project_ids = [4711]
    request     = { redeploy = "deployment", environment = "production", fallback = "live_commit" }
  }

  assert {
    condition     = output.request == "{\"environment\":\"production\",\"fallback\":\"live_commit\",\"project_id\":4711,\"redeploy\":\"deployment\",\"user\":\"svc-billing\"}"
    error_message = output.request
  }
}

run "an_existing_user_may_be_bound_in_any_order" {
  command = plan
  variables {
    create_user  = false
    project_ids  = [4711, 4712]
    group_ids    = [9]
    request      = { overlap_hours = 1 }
    destinations = [{ project_id = 4711 }, { project_id = 4712 }, { group_id = 9, redeploy = "none" }]
  }
  override_data {
    target = data.aws_iam_user.existing
    values = {
      arn  = "arn:aws:iam::123456789012:user/rotated/svc-billing"
      path = "/rotated/"
      tags = { "credential-rotator:project-ids" = "group:9  4712 4711" }
    }
  }

  assert {
    condition     = length(aws_iam_user.service) == 0
    error_message = "the user is somebody else's"
  }
}

# Several places are no reason for several to ask: whoever may ask, asks for all.
run "one_project_may_ask_for_all_places" {
  variables {
    project_ids  = [4711, 4712]
    destinations = [{ project_id = 4711 }, { project_id = 4712 }]
    gitlab_oidc = {
      provider_arn = "arn:aws:iam::123456789012:oidc-provider/gitlab.example.com"
      audience     = "https://gitlab.example.com"
      project_path = "shop/billing"
    }
  }

  assert {
    condition = jsondecode(aws_iam_role.invoke[0].assume_role_policy).Statement == [{
      Sid       = "OneRefOfOneProjectMayAssumeThisRole"
      Effect    = "Allow"
      Principal = { Federated = "arn:aws:iam::123456789012:oidc-provider/gitlab.example.com" }
      Action    = "sts:AssumeRoleWithWebIdentity"
      Condition = {
        StringEquals = {
          "gitlab.example.com:aud" = "https://gitlab.example.com"
          "gitlab.example.com:sub" = "project_path:shop/billing:ref_type:branch:ref:main"
        }
      }
    }]
    error_message = "trusted is one ref of one project: ${aws_iam_role.invoke[0].assume_role_policy}"
  }
}
