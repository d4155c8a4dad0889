// Ignored says what docker's client would send of a directory, by the libraries with which it does: moby's reader of ignore
// files, its matcher, and the walk of BuildKit's session.
//
//	ignored DIR        reads .dockerignore texts, a string of JSON each, and writes for each a line: the sorted paths that are
//	                   sent, or a string, why the text is refused
//
// Not here: what is expected of it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	gofs "io/fs"
	"os"
	"sort"
	"strings"

	"github.com/moby/patternmatcher/ignorefile"
	"github.com/tonistiigi/fsutil"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "ignored:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("a directory")
	}
	texts, said := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	said.SetEscapeHTML(false)
	for {
		var text string
		if err := texts.Decode(&text); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		paths, err := sent(args[0], text)
		var answer any = paths
		if err != nil {
			answer = err.Error()
		}
		if err := said.Encode(answer); err != nil {
			return err
		}
	}
}

func sent(root, text string) ([]string, error) {
	patterns, err := ignorefile.ReadAll(strings.NewReader(text))
	if err != nil {
		return nil, err
	}
	paths := []string{}
	err = fsutil.WalkDir(context.Background(), root, &fsutil.FilterOpt{ExcludePatterns: patterns}, func(path string, _ gofs.DirEntry, err error) error {
		paths = append(paths, path)
		return err
	})
	sort.Strings(paths)
	return paths, err
}
