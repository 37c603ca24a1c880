package terraform

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// aws is where a mirror has the provider: unpacked below a folder of its version and
// platform, or as a zip.
const aws = "registry.terraform.io/hashicorp/aws"

// provider says how to come by the AWS provider: an environment, and arguments of
// terraform init. With no mirror it is fetched, but only once: into the user's cache.
func provider(t testing.TB) (env, args []string) {
	t.Helper()
	named := os.Getenv("TF_PLUGIN_DIR")
	dir := mirror(named, roots())
	if dir == "" && named != "" {
		t.Fatalf("there is no %s for %s_%s in TF_PLUGIN_DIR, %s", aws, runtime.GOOS, runtime.GOARCH, named)
	}
	if dir != "" {
		// A configuration that is preset may name another place, or a file that is missing.
		return []string{"TF_CLI_CONFIG_FILE=" + os.DevNull}, []string{"-plugin-dir=" + dir}
	}
	if os.Getenv("TF_PLUGIN_CACHE_DIR") != "" {
		return nil, nil
	}
	cache, err := os.UserCacheDir()
	if err == nil {
		cache = filepath.Join(cache, "credential-rotator", "terraform-plugins")
		err = os.MkdirAll(cache, 0o700)
	}
	if err != nil {
		t.Fatalf("making a folder for Terraform's providers: %v; set TF_PLUGIN_CACHE_DIR to one", err)
	}
	return []string{"TF_PLUGIN_CACHE_DIR=" + cache}, nil
}

// roots are the usual places of optional software, shared data and one's own.
func roots() []string {
	all := []string{"/opt", "/usr/local/share", "/usr/share", "/usr/local/lib", "/usr/lib"}
	if home, err := os.UserHomeDir(); err == nil {
		all = append(all, filepath.Join(home, ".terraform.d"), filepath.Join(home, ".local", "share"), home)
	}
	return all
}

// mirror is the folder that holds registry.terraform.io with a provider for this
// platform: the one named, or else one at most two folders below a root. Empty: none.
func mirror(named string, roots []string) string {
	platform := runtime.GOOS + "_" + runtime.GOARCH
	places := []string{named}
	if named == "" {
		places = nil
		for _, root := range roots {
			places = append(places, root, filepath.Join(root, "*"), filepath.Join(root, "*", "*"))
		}
	}
	for _, place := range places {
		for _, form := range []string{filepath.Join("*", platform), "*_" + platform + ".zip"} {
			found, err := filepath.Glob(filepath.Join(place, aws, form))
			if err == nil && len(found) > 0 {
				dir, _, _ := strings.Cut(found[len(found)-1], string(filepath.Separator)+filepath.FromSlash(aws))
				return dir
			}
		}
	}
	return ""
}
