# Where the key goes when that is more than one project and its two variables: the
# user's binding tag, the destinations of the request, and what is wrong with them.
#
# A destination may be of many shapes, and an object type would drop what it does not
# know without a word. So destinations are of any type and looked through here, by the
# rules and in the words of the function (rotator/request.go). A variable's validation
# cannot look at locals that are made of the variable: these rules stop the plan as
# preconditions of the output "request".

locals {
  places      = concat(var.project_ids, [for id in var.group_ids : "group:${id}"])
  binding     = join(" ", local.places)
  binding_max = 256 # IAM's limit of a tag's value
  places_max  = 20  # the function's limit of destinations, and of the redeploys of each

  # What a rule sends (8192 bytes), and what the function reads (256 KiB), less than what a
  # request has beside its destinations.
  destinations_max = var.scheduler ? 260000 : 8000

  way_fields = { project_id = "id", redeploy = "text", ref = "text", environment = "text", fallback = "text", inputs = "inputs" }
  target_fields = merge(local.way_fields, {
    group_id                   = "id"
    environment_scope          = "text"
    access_key_id_variable     = "text"
    secret_access_key_variable = "text"
    credentials_file_variable  = "text"
    profile                    = "text"
    allow_unmasked             = "flag"
    redeploys                  = "list"
  })

  # What a value is, its JSON tells. Numbers and booleans may be strings: those of other
  # modules are, and where it unifies types Terraform makes them so.
  kinds = {
    id     = { form = "^(\"[1-9][0-9]{0,17}\"|[1-9][0-9]{0,17})$", is = "a whole number above 0" }
    text   = { form = "^\"", is = "a string" }
    flag   = { form = "^(\"(true|false)\"|true|false)$", is = "true or false" }
    list   = { form = "^\\[\\{", is = "a list of one or more objects" }
    inputs = { form = "^\\{", is = "an object of strings, numbers, booleans and lists" }
  }
  no_input = "^(null|\\{)" # GitLab's inputs are what remains
}

# The places and the ways, each with where it stands, and with the function's defaults
# where a rule needs them. What is asked of the function is only what was given.
locals {
  targets = [for i, d in var.destinations : {
    at    = "destinations[${i}]."
    given = d
    # As the binding tag names it.
    owner = try("group:${d.group_id}", coalesce(tostring(d.project_id)), "")
    group = can(d.group_id)
    scope = try(d.environment_scope, "*")
    file  = can(d.credentials_file_variable)
    variables = [
      for field, name in { access_key_id_variable = "AWS_ACCESS_KEY_ID", secret_access_key_variable = "AWS_SECRET_ACCESS_KEY", credentials_file_variable = "" } :
      try(tostring(d[field]), name) if can(d.credentials_file_variable) == (field == "credentials_file_variable")
    ]
  }]

  steps = flatten([for t in local.targets : [for j, w in try(t.given.redeploys, []) : { at = "${t.at}redeploys[${j}].", given = w, target = t }]])

  ways = [for w in concat(local.steps, [for t in local.targets : { at = t.at, given = t.given } if !can(t.given.redeploys)]) : {
    at          = w.at
    given       = w.given
    redeploy    = try(w.given.redeploy, "pipeline")
    environment = try(w.given.environment, "")
    ref         = try(w.given.ref, "")
    fallback    = try(w.given.fallback, "")
  }]

  destinations = [for d in var.destinations : merge(
    d,
    { for field in ["project_id", "group_id"] : field => try(tonumber(d[field]), d[field]) if can(d[field]) },
    { for field in ["allow_unmasked"] : field => try(tobool(d[field]), d[field]) if can(d[field]) },
    { for field in ["redeploys"] : field => [
      for w in d.redeploys : merge(w, { for id in ["project_id"] : id => try(tonumber(w[id]), w[id]) if can(w[id]) })
    ] if can(d[field]) },
  )]
}

# What is wrong: in each map the sentence, and whether it is true. They are apart, so that
# an id that is known after the apply only does not put off all the others.
locals {
  fault_kinds = concat(
    flatten([for t in local.targets : [
      for field, value in t.given : "${t.at}${field} must be ${local.kinds[local.target_fields[field]].is}${value == null ? ", not null: leave it out" : ""}"
      if !can(regex(local.kinds[local.target_fields[field]].form, jsonencode(value)))
    ]]),
    flatten([for s in local.steps : [
      for field, value in s.given : "${s.at}${field} must be ${local.kinds[local.way_fields[field]].is}${value == null ? ", not null: leave it out" : ""}"
      if !can(regex(local.kinds[local.way_fields[field]].form, jsonencode(value)))
    ]]),
    flatten([for w in local.ways : [
      for name, value in try(w.given.inputs, {}) : "${w.at}inputs must be ${local.kinds.inputs.is}, and ${name} is none of these"
      if can(regex(local.no_input, jsonencode(value)))
    ] if can(keys(try(w.given.inputs, {})))]),
  )

  fault_places = concat(
    flatten([for i, t in local.targets : [for fault, wrong in {
      "project_id or group_id, one of the two, must say whose variables hold the key" = (
        can(t.given.project_id) == can(t.given.group_id)
      )
      "${t.group ? "group_id" : "project_id"} is not among ${t.group ? "group_ids" : "project_ids"}, which say where the user's key may go" = (
        t.owner != "" && !contains(local.places, t.owner)
      )
      "${t.group ? "group_id" : "project_id"} and its variables are those of another of the destinations: name each place once" = anytrue([
        for u in slice(local.targets, 0, i) : u.owner == t.owner && u.scope == t.scope && length(setintersection(u.variables, t.variables)) > 0
      ])
    } : "${t.at}${fault}" if wrong]]),
    [for place in local.places : "${startswith(place, "group:") ? replace(place, ":", " ") : "project ${place}"} is named by none of the destinations: its jobs would keep a key that is going to be deleted"
    if length(local.targets) > 0 && !contains(local.targets[*].owner, place)],
    flatten([for s in local.steps : [for fault, wrong in {
      "project_id is missing: the project of the group that is redeployed" = (
        s.target.group && !can(s.given.project_id)
      )
      "project_id must be that of its place, or left out: what is published to one project does not reach another" = (
        !s.target.group && try(tostring(s.given.project_id) != s.target.owner, false)
      )
    } : "${s.at}${fault}" if wrong]]),
  )

  fault_variables = flatten([for t in local.targets : [for fault, wrong in {
    "environment_scope must be 1 to 255 printable characters; * is every environment" = (
      !can(regex("^${local.printable}{1,255}$", t.scope))
    )
    "${t.file ? "credentials_file_variable" : "access_key_id_variable and secret_access_key_variable"} must be 1 to 255 of A-Z a-z 0-9 _" = (
      !alltrue([for name in t.variables : can(regex("^[A-Za-z0-9_]{1,255}$", name))])
    )
    "access_key_id_variable and secret_access_key_variable must differ" = (
      !t.file && length(distinct(t.variables)) < 2
    )
    "access_key_id_variable and secret_access_key_variable stand beside no credentials_file_variable, which holds both" = (
      t.file && (can(t.given.access_key_id_variable) || can(t.given.secret_access_key_variable))
    )
    "allow_unmasked must be true with credentials_file_variable: GitLab masks single lines only, so a job that prints the file shows the secret in its log" = (
      t.file && try(!tobool(t.given.allow_unmasked), true)
    )
    "profile and allow_unmasked go with credentials_file_variable" = (
      !t.file && (can(t.given.profile) || can(t.given.allow_unmasked))
    )
    "profile must be at most 64 of A-Z a-z 0-9 _ - . / + = @" = (
      !can(regex("^[A-Za-z0-9_./+=@-]{0,64}$", try(t.given.profile, "")))
    )
  } : "${t.at}${fault}" if wrong]])

  fault_ways = concat(
    flatten([for t in local.targets : [for fault, wrong in {
      "redeploys is missing: a group has no pipelines, so say which of its projects are redeployed, and how" = (
        t.group && !can(t.given.redeploys) && try(t.given.redeploy != "none", true)
      )
      "redeploys stands instead of redeploy, ref, environment, fallback and inputs: say them in each" = (
        can(t.given.redeploys) && length(setintersection(keys(t.given), setsubtract(keys(local.way_fields), ["project_id"]))) > 0
      )
      "redeploys must be at most ${local.places_max}" = (
        length(try(t.given.redeploys, [])) > local.places_max
      )
    } : "${t.at}${fault}" if wrong]]),
    flatten([for w in local.ways : [for fault, wrong in {
      "redeploy must be pipeline, deployment or none" = (
        !can(regex("^(pipeline|deployment|none)$", w.redeploy))
      )
      "environment is missing: redeploy deployment redeploys what is live there" = (
        w.redeploy == "deployment" && w.environment == ""
      )
      "environment must be at most 255 printable characters" = (
        !can(regex("^${local.printable}{0,255}$", w.environment))
      )
      "ref must be the name of a branch or tag: at most 255 printable characters, no space, none of ~ ^ : ? * [ \\, and no dash in front" = (
        !can(regex("^${local.printable}{0,255}$", w.ref)) || can(regex(local.no_ref, w.ref))
      )
      "fallback must be left out or, with redeploy deployment, be pipeline or live_commit" = (
        !can(regex(w.redeploy == "deployment" ? "^(|pipeline|live_commit)$" : "^$", w.fallback))
      )
      "inputs go with a pipeline: a job that is retried keeps those that it had" = (
        try(length(w.given.inputs) > 0, false) && w.redeploy != "pipeline" && w.fallback == ""
      )
      "overlap_hours must be at least 1, in request, with redeploy none: nothing else tells when the service has the new key" = (
        w.redeploy == "none" && try(tonumber(lookup(var.request, "overlap_hours", 0)) < 1, false)
      )
    } : "${w.at}${fault}" if wrong]]),
  )
}
