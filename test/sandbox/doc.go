package sandbox

// # What is not known about GitLab
//
// A rule of the world is either taken from GitLab's source or its documentation, and
// says so where it stands, or is on this list: it is remembered
// and not verified. The world follows one side of each. The program must not rest on
// that side; what keeps it from doing so is said with each, and
// TestTheProgramRestsOnNothingUnverified (test/hostile) runs a rotation on the other
// side of those that a rotation can meet.
//
//	rule of the world                              where              why the program need not care
//	---------------------------------------------  -----------------  ---------------------------------------
//	reads take the scope read_api                  token.inScope      a rotation has api; plan with less is
//	                                                                  told what GitLab answers, and touches nothing
//	wording of Grape's errors (a missing           request.missing,   statuses decide; words are shown, and
//	parameter, a value that is none)               listJobs, valid    choose the advice
//	an instance that does not know the status      isStatus           any 400 to it is followed by the same
//	canceling answers 400                                             question without it
//	wording of the refusals of a pipeline          createPipeline     as above; an unknown one advises to mend
//	(a missing .gitlab-ci.yml, faults in it)                          .gitlab-ci.yml
//	the file that a refusal of inputs names first  inputsFault        any 400 is a refusal; its words are shown
//	                                                                  as they are
//	which of several faults of a new tag is told   createTag          any 400 is a refusal, and there is no tag;
//	first; an archived project takes tags                             an archived project is not rotated
//	an optional manual job does not block its      optional, worked   a deployment that succeeded serves whatever
//	pipeline                                                          the pipeline's status is; without an
//	                                                                  environment a blocked pipeline is waited for
//	deployments are read by a Reporter and up      gitlabEndpoints    the token is a Maintainer's
//	pipeline schedules and the CI file are read    lookingEndpoints   the token is a Maintainer's; what cannot be
//	by a Reporter and up                                              read is said
//	the variables of a schedule are left out for   showSchedule       what is not shown is said not to be seen
//	who may not read them
//	of two scopes with wildcards that mean an      closeness          which of them wins is said to be unknown
//	environment the longer one is closer
//	a 404 says "404 Not found", or otherwise       findJob and other  any 404 that is GitLab's (JSON) is one
//	the deployment of a skipped job is skipped     deployment.status  every status but success, created, running
//	                                                                  and blocked counts as none
//	the deployment of a retried job is there as    retryJob           the retry is found by its job; a deployment
//	soon as the job is                                                that is not there when the job has ended
//	                                                                  counts as failed, and is tried again
//	an outdated deployment's job may be retried,   outdated           what is live is never outdated; the refusal
//	unless the project says otherwise                                 and the failure are told, and tried again
//	a job whose artifacts have expired fails, and  -                  it fails; the word only chooses what is said
//	says missing_dependency_failure
//	a bad or missing token is "401 Unauthorized"   bearer             every 401 is one
//	the refusal of an expires_at that is no date   expiry             it is always sent, and always one
//	a rotated token keeps its roles at once        rotate             the new token is looked at before it is
//	                                                                  called good, and a rotation looks itself
//	a 429 has the body "Retry later", of           Hostility,         the status decides; the wait is bounded
//	text/plain; its headers are those of           hostile            with Retry-After, with RateLimit-Reset,
//	rack_attack, or missing                                           and without either
//	replies that are not refused have no           send               client-go's own limiter is switched off
//	RateLimit headers (GitLab.com's edge adds some)
//
// The others of that list (lifetimes of tokens, rights to make webhooks, the number of
// instance variables) are about what neither the world nor the program has.
//
// Of AWS, moto pins what the program rests on, with the contract suites; what moto
// cannot show (delays, lists that lag, racing creates, replies that are lost) is turned
// on in Options and by fates. Only that it can happen is rested on, never that it does
// not, nor for how long.
