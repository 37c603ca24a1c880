package rotator_test

import (
	"encoding/json"
	"testing"

	"credential-rotator/rotator"
)

// A rotation may have begun under a version that deployed again nothing but pipelines:
// its mark is a number, and the deployment that served has its own id and its pipeline's
// address.
func TestARecordOfAnEarlierVersionIsGoneOnWith(t *testing.T) {
	for name, c := range map[string]struct {
		deployment, says string
	}{
		"a pipeline":                   {`{"kind":"pipeline","id":61,"url":"https://gitlab.example.com/shop/billing/-/pipelines/61","status":"running"}`, "pipeline 61"},
		"a deployment that served":     {`{"kind":"deployment","id":42,"url":"https://gitlab.example.com/shop/billing/-/pipelines/59","status":"success"}`, "deployment 42"},
		"a deployment that no job did": {`{"kind":"deployment","id":42,"url":"","status":"success"}`, "deployment 42"},
		"the job of this version":      {`{"kind":"deployment","id":701,"url":"https://gitlab.example.com/shop/billing/-/jobs/701","status":"success"}`, "job 701"},
	} {
		t.Run(name, func(t *testing.T) {
			var r rotator.Record
			err := json.Unmarshal([]byte(`{"user":"svc-billing","version":9,"phase":"redeploying","published_at":"2026-11-21T20:00:01Z","mark":60,"marked":true,
				"attempts":["2026-11-21T20:00:02Z"],"request":{"user":"svc-billing","project_id":4711,"redeploy":"pipeline"},"deployment":`+c.deployment+`}`), &r)
			if err != nil || r.Mark != 60 || r.JobMark != 0 || r.FellBack || !r.Marked || r.Phase != rotator.PhaseRedeploying || len(r.Attempts) != 1 {
				t.Errorf("%+v, %v", r, err)
			}
			if said := r.Deployment.Name(); said != c.says {
				t.Errorf("it is called %s, want %s", said, c.says)
			}
		})
	}
}
