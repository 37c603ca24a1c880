package terraform

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

func TestMirror(t *testing.T) {
	platform := runtime.GOOS + "_" + runtime.GOARCH
	unpacked := filepath.Join(aws, "5.100.0", platform, "terraform-provider-aws")
	for name, c := range map[string]struct {
		file  string // that there is, below the root
		named string // by TF_PLUGIN_DIR, below the root
		want  string // below the root
	}{
		"one folder below a root":                   {file: filepath.Join("plugins", unpacked), want: "plugins"},
		"two folders below a root":                  {file: filepath.Join("share", "plugins", unpacked), want: "share/plugins"},
		"the root itself":                           {file: unpacked, want: "."},
		"providers as zips":                         {file: filepath.Join("m", aws, "terraform-provider-aws_5.100.0_"+platform+".zip"), want: "m"},
		"the place that is named":                   {file: filepath.Join("a", "b", "c", "d", unpacked), named: "a/b/c/d", want: "a/b/c/d"},
		"nothing, when the place named has nothing": {file: filepath.Join("plugins", unpacked), named: "elsewhere"},
		"nothing of another platform":               {file: filepath.Join("plugins", aws, "5.100.0", "plan9_mips", "terraform-provider-aws")},
		"nothing that lies too deep":                {file: filepath.Join("a", "b", "c", unpacked)},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			if err := os.MkdirAll(filepath.Join(root, filepath.Dir(c.file)), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(root, c.file), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			below := func(name string) string {
				if name == "" {
					return ""
				}
				return filepath.Join(root, name)
			}
			if got := mirror(below(c.named), []string{root}); got != below(c.want) {
				t.Errorf("found %q, want %q", got, below(c.want))
			}
		})
	}
}
