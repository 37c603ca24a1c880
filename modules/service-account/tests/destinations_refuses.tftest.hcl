# What is wrong with several places is refused when it is planned, in words: those of the
# function (rotator/request.go), whose rules they are.

mock_provider "aws" {
  source = "./tests/aws"
}

variables {
  function_arn = "arn:aws:lambda:eu-central-1:123456789012:function:credential-rotator"
  user_path    = "/rotated/"
  user_name    = "svc-billing"
  project_ids  = [4711]
}

# The places that the user is bound to.

run "a_wildcard_in_the_groups" {
  command = plan
  variables {
    group_ids    = ["*"]
    destinations = [{ project_id = 4711 }]
  }
  expect_failures = [var.group_ids]
}

run "all_groups_below_a_path" {
  command = plan
  variables {
    group_ids    = ["shop/*"]
    destinations = [{ project_id = 4711 }]
  }
  expect_failures = [var.group_ids]
}

run "a_group_written_as_in_the_tag" {
  command = plan
  variables {
    group_ids    = ["group:9"]
    destinations = [{ project_id = 4711 }]
  }
  expect_failures = [var.group_ids]
}

run "a_group_named_twice" {
  command = plan
  variables {
    group_ids    = [9, "9"]
    destinations = [{ project_id = 4711 }]
  }
  expect_failures = [var.group_ids]
}

run "a_group_among_the_projects" {
  command = plan
  variables {
    project_ids  = [4711, "group:9"]
    destinations = [{ project_id = 4711 }]
  }
  expect_failures = [var.project_ids]
}

run "a_project_named_twice" {
  command = plan
  variables {
    project_ids  = [4711, "4711"]
    destinations = [{ project_id = 4711 }]
  }
  expect_failures = [var.project_ids]
}

run "a_group_and_no_destinations" {
  command = plan
  variables {
    project_ids = []
    group_ids   = [9]
  }
  expect_failures = [var.project_ids]
}

run "a_group_beside_the_project_and_no_destinations" {
  command = plan
  variables {
    group_ids = [9]
  }
  expect_failures = [var.project_ids]
}

run "destinations_and_no_place_that_the_key_may_go_to" {
  command = plan
  variables {
    project_ids  = []
    destinations = [{ project_id = 4711 }]
  }
  expect_failures = [var.project_ids]
}

run "more_places_than_twenty" {
  command = plan
  variables {
    project_ids  = range(1, 20)
    group_ids    = [1, 2]
    destinations = [{ project_id = 1 }]
  }
  expect_failures = [var.project_ids]
}

run "more_than_the_tag_holds" {
  command = plan
  variables {
    project_ids  = [for i in range(14) : 100000000000000000 + i]
    destinations = [{ project_id = 4711 }]
  }
  expect_failures = [var.project_ids]
}

# The shape of destinations.

run "one_destination_that_is_no_list" {
  command = plan
  variables {
    destinations = { project_id = 4711 }
  }
  expect_failures = [var.destinations]
}

run "destinations_without_an_order" {
  command = plan
  variables {
    destinations = toset([{ project_id = 4711 }])
  }
  expect_failures = [var.destinations]
}

run "numbers_where_objects_belong" {
  command = plan
  variables {
    destinations = [4711, 4712]
  }
  expect_failures = [var.destinations]
}

run "destinations_in_words" {
  command = plan
  variables {
    destinations = "4711"
  }
  expect_failures = [var.destinations]
}

run "more_destinations_than_twenty" {
  command = plan
  variables {
    destinations = [for i in range(21) : { project_id = 4711, environment_scope = "e${i}" }]
  }
  expect_failures = [var.destinations]
}

run "more_than_a_rule_sends" {
  command = plan
  variables {
    destinations = [{ project_id = 4711, inputs = { text = join("", [for i in range(800) : "0123456789"]) } }]
  }
  expect_failures = [var.destinations]
}

run "more_bytes_than_a_rule_sends" {
  command = plan
  variables {
    destinations = [{ project_id = 4711, inputs = { text = join("", [for i in range(801) : "ööööö"]) } }]
  }
  expect_failures = [var.destinations]
}

run "a_mistyped_field_of_a_destination" {
  command = plan
  variables {
    destinations = [{ project_id = 4711, enviroment = "production" }]
  }
  expect_failures = [var.destinations]
}

run "what_is_about_the_key_in_a_destination" {
  command = plan
  variables {
    destinations = [{ project_id = 4711, soak_hours = 24 }]
  }
  expect_failures = [var.destinations]
}

run "another_user_in_a_destination" {
  command = plan
  variables {
    destinations = [{ project_id = 4711, user = "svc-other" }]
  }
  expect_failures = [var.destinations]
}

run "a_mistyped_field_of_a_redeploy" {
  command = plan
  variables {
    destinations = [{ project_id = 4711, redeploys = [{ enviroment = "production" }] }]
  }
  expect_failures = [var.destinations]
}

run "a_place_in_a_redeploy" {
  command = plan
  variables {
    destinations = [{ project_id = 4711, redeploys = [{ environment_scope = "production" }] }]
  }
  expect_failures = [var.destinations]
}

run "one_redeploy_that_is_no_list" {
  command = plan
  variables {
    destinations = [{ project_id = 4711, redeploys = { environment = "production" } }]
  }
  expect_failures = [var.destinations]
}

run "no_redeploy_in_redeploys" {
  command = plan
  variables {
    destinations = [{ project_id = 4711, redeploys = [] }]
  }
  expect_failures = [var.destinations]
}

run "redeploys_that_are_null" {
  command = plan
  variables {
    destinations = [{ project_id = 4711, redeploys = null }]
  }
  expect_failures = [var.destinations]
}

run "what_is_about_one_place_beside_several" {
  command = plan
  variables {
    request      = { environment = "production" }
    destinations = [{ project_id = 4711 }]
  }
  expect_failures = [var.request]
}

run "inputs_in_the_request" {
  command = plan
  variables {
    request = { inputs = "{}" }
  }
  expect_failures = [var.request]
}

run "another_fallback_than_the_two" {
  command = plan
  variables {
    request = { redeploy = "deployment", environment = "production", fallback = "live commit" }
  }
  expect_failures = [var.request]
}

run "the_live_commit_without_a_deployment" {
  command = plan
  variables {
    request = { fallback = "live_commit" }
  }
  expect_failures = [var.request]
}

# What each destination says.

run "values_of_the_wrong_type" {
  command = plan
  variables {
    destinations = [
      { project_id = 4711.5, environment = 5, ref = null, inputs = ["eu"], allow_unmasked = "yes", credentials_file_variable = "F" },
      { project_id = "shop/billing", inputs = { region = "eu", replicas = 3, canary = true, zones = ["a"], nested = { a = 1 }, none = null } },
      { project_id = 4711, redeploys = [{ project_id = 0, inputs = "eu", redeploy = true }] },
      { group_id = -9, redeploy = "none" },
    ]
  }
  expect_failures = [output.request]
  assert {
    condition = local.fault_kinds == [
      "destinations[0].allow_unmasked must be true or false",
      "destinations[0].environment must be a string",
      "destinations[0].inputs must be an object of strings, numbers, booleans and lists",
      "destinations[0].project_id must be a whole number above 0",
      "destinations[0].ref must be a string, not null: leave it out",
      "destinations[1].project_id must be a whole number above 0",
      "destinations[3].group_id must be a whole number above 0",
      "destinations[2].redeploys[0].inputs must be an object of strings, numbers, booleans and lists",
      "destinations[2].redeploys[0].project_id must be a whole number above 0",
      "destinations[2].redeploys[0].redeploy must be a string",
      "destinations[1].inputs must be an object of strings, numbers, booleans and lists, and nested is none of these",
      "destinations[1].inputs must be an object of strings, numbers, booleans and lists, and none is none of these",
    ]
    error_message = jsonencode(local.fault_kinds)
  }
}

run "another_place_than_those_of_the_user_and_one_forgotten" {
  command = plan
  variables {
    project_ids  = [4711, 4712]
    group_ids    = [9, 10]
    destinations = [{ project_id = 4711 }, { project_id = 4713 }, { project_id = 9 }, { group_id = 4712, redeploy = "none" }, { group_id = 10, redeploy = "none" }]
    request      = { overlap_hours = 1 }
  }
  expect_failures = [output.request]
  assert {
    condition = local.fault_places == [
      "destinations[1].project_id is not among project_ids, which say where the user's key may go",
      "destinations[2].project_id is not among project_ids, which say where the user's key may go",
      "destinations[3].group_id is not among group_ids, which say where the user's key may go",
      "project 4712 is named by none of the destinations: its jobs would keep a key that is going to be deleted",
      "group 9 is named by none of the destinations: its jobs would keep a key that is going to be deleted",
    ]
    error_message = jsonencode(local.fault_places)
  }
}

run "no_place_two_places_and_one_place_twice" {
  command = plan
  variables {
    group_ids = [9]
    destinations = [
      { environment = "production" },
      { project_id = 4711, group_id = 9, redeploy = "none" },
      { project_id = 4711 },
      { project_id = "4711", access_key_id_variable = "OTHER_ID" },
      { project_id = 4711, environment_scope = "production" },
      { project_id = 4711, credentials_file_variable = "AWS_ACCESS_KEY_ID", allow_unmasked = true },
    ]
    request = { overlap_hours = 1 }
  }
  expect_failures = [output.request]
  assert {
    condition = local.fault_places == [
      "destinations[0].project_id or group_id, one of the two, must say whose variables hold the key",
      "destinations[1].project_id or group_id, one of the two, must say whose variables hold the key",
      "destinations[3].project_id and its variables are those of another of the destinations: name each place once",
      "destinations[5].project_id and its variables are those of another of the destinations: name each place once",
    ]
    error_message = jsonencode(local.fault_places)
  }
}

run "redeploys_of_other_projects" {
  command = plan
  variables {
    group_ids = [9]
    destinations = [
      { project_id = 4711, redeploys = [{ project_id = 4712 }, { project_id = "4711" }, {}] },
      { group_id = 9, redeploys = [{ project_id = 1 }, { environment = "production" }] },
    ]
  }
  expect_failures = [output.request]
  assert {
    condition = local.fault_places == [
      "destinations[0].redeploys[0].project_id must be that of its place, or left out: what is published to one project does not reach another",
      "destinations[1].redeploys[1].project_id is missing: the project of the group that is redeployed",
    ]
    error_message = jsonencode(local.fault_places)
  }
}

run "variables_that_gitlab_would_not_take" {
  command = plan
  variables {
    destinations = [
      { project_id = 4711, environment_scope = "" },
      { project_id = 4711, environment_scope = "a\nb", access_key_id_variable = "AWS-KEY" },
      { project_id = 4711, environment_scope = "c", secret_access_key_variable = "AWS_ACCESS_KEY_ID" },
      { project_id = 4711, environment_scope = "d", credentials_file_variable = "a b", allow_unmasked = true },
    ]
  }
  expect_failures = [output.request]
  assert {
    condition = local.fault_variables == [
      "destinations[0].environment_scope must be 1 to 255 printable characters; * is every environment",
      "destinations[1].access_key_id_variable and secret_access_key_variable must be 1 to 255 of A-Z a-z 0-9 _",
      "destinations[1].environment_scope must be 1 to 255 printable characters; * is every environment",
      "destinations[2].access_key_id_variable and secret_access_key_variable must differ",
      "destinations[3].credentials_file_variable must be 1 to 255 of A-Z a-z 0-9 _",
    ]
    error_message = jsonencode(local.fault_variables)
  }
}

run "files_that_nobody_agreed_to_see_in_a_log" {
  command = plan
  variables {
    destinations = [
      { project_id = 4711, credentials_file_variable = "A" },
      { project_id = 4711, credentials_file_variable = "B", allow_unmasked = false, profile = "a b" },
      { project_id = 4711, credentials_file_variable = "C", allow_unmasked = true, access_key_id_variable = "ID" },
      { project_id = 4711, profile = "default" },
      { project_id = 4711, environment_scope = "e", allow_unmasked = true },
    ]
  }
  expect_failures = [output.request]
  assert {
    condition = local.fault_variables == [
      "destinations[0].allow_unmasked must be true with credentials_file_variable: GitLab masks single lines only, so a job that prints the file shows the secret in its log",
      "destinations[1].allow_unmasked must be true with credentials_file_variable: GitLab masks single lines only, so a job that prints the file shows the secret in its log",
      "destinations[1].profile must be at most 64 of A-Z a-z 0-9 _ - . / + = @",
      "destinations[2].access_key_id_variable and secret_access_key_variable stand beside no credentials_file_variable, which holds both",
      "destinations[3].profile and allow_unmasked go with credentials_file_variable",
      "destinations[4].profile and allow_unmasked go with credentials_file_variable",
    ]
    error_message = jsonencode(local.fault_variables)
  }
}

run "groups_that_say_no_project_and_ways_beside_ways" {
  command = plan
  variables {
    project_ids = [4711]
    group_ids   = [9, 10]
    destinations = [
      { group_id = 9 },
      { group_id = 10, redeploy = "deployment", environment = "production" },
      { project_id = 4711, environment = "production", redeploys = [for i in range(21) : {}] },
    ]
  }
  expect_failures = [output.request]
  assert {
    condition = local.fault_ways == [
      "destinations[0].redeploys is missing: a group has no pipelines, so say which of its projects are redeployed, and how",
      "destinations[1].redeploys is missing: a group has no pipelines, so say which of its projects are redeployed, and how",
      "destinations[2].redeploys must be at most 20",
      "destinations[2].redeploys stands instead of redeploy, ref, environment, fallback and inputs: say them in each",
    ]
    error_message = jsonencode(local.fault_ways)
  }
}

run "ways_that_lead_nowhere" {
  command = plan
  variables {
    destinations = [
      { project_id = 4711, redeploy = "hope" },
      { project_id = 4711, environment_scope = "b", redeploy = "deployment" },
      { project_id = 4711, environment_scope = "c", fallback = "live_commit" },
      { project_id = 4711, environment_scope = "d", redeploy = "deployment", environment = "a\nb", fallback = "main" },
      { project_id = 4711, environment_scope = "e", redeploys = [
        { ref = "release/*" },
        { ref = "-f" },
        { redeploy = "deployment", environment = "production", inputs = { region = "eu" } },
        { redeploy = "none" },
      ] },
    ]
  }
  expect_failures = [output.request]
  assert {
    condition = local.fault_ways == [
      "destinations[4].redeploys[0].ref must be the name of a branch or tag: at most 255 printable characters, no space, none of ~ ^ : ? * [ \\, and no dash in front",
      "destinations[4].redeploys[1].ref must be the name of a branch or tag: at most 255 printable characters, no space, none of ~ ^ : ? * [ \\, and no dash in front",
      "destinations[4].redeploys[2].inputs go with a pipeline: a job that is retried keeps those that it had",
      "destinations[4].redeploys[3].overlap_hours must be at least 1, in request, with redeploy none: nothing else tells when the service has the new key",
      "destinations[0].redeploy must be pipeline, deployment or none",
      "destinations[1].environment is missing: redeploy deployment redeploys what is live there",
      "destinations[2].fallback must be left out or, with redeploy deployment, be pipeline or live_commit",
      "destinations[3].environment must be at most 255 printable characters",
      "destinations[3].fallback must be left out or, with redeploy deployment, be pipeline or live_commit",
    ]
    error_message = jsonencode(local.fault_ways)
  }
}

run "an_existing_user_of_fewer_places_is_told_of" {
  command = plan
  variables {
    create_user  = false
    project_ids  = [4711, 4712]
    destinations = [{ project_id = 4711 }, { project_id = 4712 }]
  }
  expect_failures = [check.existing_user_is_bound]
}
