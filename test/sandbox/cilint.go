package sandbox

import (
	"net/http"
	"slices"
)

// lintProject shows the project's CI file as GitLab has put it together. The file is
// the one of content_ref, else of the default branch (GitLab lib/api/lint.rb,
// GET :id/ci/lint). The world does not check the file: it is what Project.CIFile says,
// on every ref.
func lintProject(r *request) (any, error) {
	ref := r.in["content_ref"]
	if ref == "" {
		ref = r.project.DefaultBranch
	}
	known := slices.ContainsFunc(r.project.Refs, func(known Ref) bool { return known.Name == ref })
	if !known {
		return nil, message(http.StatusNotFound, "404 Commit Not Found")
	}
	if r.project.CIFile == "" {
		return object{"valid": false, "merged_yaml": nil, "errors": []string{"Please provide content of .gitlab-ci.yml"}, "warnings": []string{}, "includes": nil}, nil
	}
	return object{"valid": true, "merged_yaml": r.project.CIFile, "errors": []string{}, "warnings": []string{}, "includes": []any{}}, nil
}
