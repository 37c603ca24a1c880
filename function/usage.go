package main

// usage is all that --help prints; the README repeats it.
const usage = `Usage:
    credential-rotator rotate USER --project-id N [flags] [--wait 30m]
    credential-rotator plan   USER --project-id N [flags]   # reads only; what it would do, and why
    credential-rotator status USER --project-id N [flags]   # keys, places, what is under way, what comes next
    credential-rotator resume                               # advance everything in flight
    credential-rotator handle < event.json                  # exactly what the function would do
    credential-rotator token status                         # whose GitLab token it is, and until when
    credential-rotator token rotate [--expires-in-days N]   # a new one, in the store that the old one is in
    credential-rotator version

Flags, which are the fields of a request:
    --project-id N                     the GitLab project that deploys with the key
    --environment-scope SCOPE          of the two variables (*)
    --access-key-id-variable NAME      (AWS_ACCESS_KEY_ID)
    --secret-access-key-variable NAME  (AWS_SECRET_ACCESS_KEY)
    --redeploy HOW                     pipeline, deployment (what is live, again) or none (pipeline)
    --ref REF                          branch or tag of the pipeline (the default branch)
    --inputs JSON                      of the pipeline: {"name": value}
    --environment NAME                 whose deployment is the proof of success, or is made again
    --fallback HOW                     when what is live cannot be deployed again: pipeline or live_commit
    --max-age-days N                   how old a key may become (90)
    --lead-days N                      how much earlier it is replaced (7)
    --overlap-hours N                  how long both keys work after the deployment (0)
    --soak-hours N                     how long the old key stays inactive before it is deleted (0)
    --force                            rotate though it is not due; end a soak
    --retire-key ID                    a key that is in the way and may be retired
    --caller-job-id N                  the CI job that asks and waits: it is not waited for

Other places, and several (JSON is given as it is, or as @FILE):
    --destinations JSON                the places, instead of --project-id and what is about one place
    --redeploys JSON                   several redeploys of one place, in order
    --group-id N                       a GitLab group instead of a project; it needs --redeploys
    --credentials-file-variable NAME   one variable of type file, instead of the two
    --profile NAME                     in that file (default)
    --allow-unmasked                   which GitLab cannot mask: accept that

And:
    --wait TIME                        of rotate: go on for so long while it is waiting
    --expires-in-days N                of token rotate: how long the new one lives, 1 to 365 (90)
    -o, --output text|json|markdown    how answers are written (text); markdown is a note of plan
    -h, --help                         this

Exit codes: 0 done or nothing to do, 1 refused or failed, 2 wrong flags or
configuration, 3 waiting, busy or held. The environment configures it: GITLAB_URL,
GITLAB_TOKEN, JOURNAL, AWS_REGION and more, which the README lists.
`
