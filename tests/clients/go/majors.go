//go:build tidy

// Keeps both major versions in go.mod: the tests import one of them at a time.
package clients

import (
	_ "github.com/elastic/go-elasticsearch/v8"
	_ "github.com/elastic/go-elasticsearch/v9"
)
