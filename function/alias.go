package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"credential-rotator/rotator"
)

// IAM can say who may invoke a function, and not with what: whoever may invoke this one
// may ask for any user's rotation. So a caller that is to ask for one service only is
// allowed one alias of the function, which bears that service's name, and here the
// alias is held against the request. AWS enforces which ARN a caller may invoke and
// tells it to the function; what the caller sends cannot change it.

// allowed says why an event may not be served that came to an ARN of this function.
// Without a qualifier everything is served: that is how EventBridge's rules invoke it.
func allowed(arn string, e rotator.Event) error {
	switch q := qualifier(arn); {
	case q == "", q == "$LATEST":
		return nil
	case e.FollowUp:
		return fmt.Errorf("the alias %s serves one user, and a follow-up advances all: invoke the function without a qualifier", q)
	case e.CheckToken:
		return fmt.Errorf("the alias %s serves one user, and the token serves all: invoke the function without a qualifier", q)
	case q != aliasOf(e.Request.User):
		// A version's number lands here as well: it is no user's alias.
		return fmt.Errorf("the qualifier %s is not the alias of user %s: invoke the function as %s, or without a qualifier", q, e.Request.User, aliasOf(e.Request.User))
	case e.Request.RetireKey != "":
		return fmt.Errorf("the alias %s serves no retire_key: whether a key is still in use is for somebody to say who may invoke the function without a qualifier", q)
	}
	return nil
}

// qualifier is what follows the name in arn:PARTITION:lambda:REGION:ACCOUNT:function:NAME.
func qualifier(arn string) string {
	const unqualified = 7
	parts := strings.SplitN(arn, ":", unqualified+1)
	if len(parts) <= unqualified {
		return ""
	}
	return parts[unqualified]
}

// aliasOf is the name of a user's alias. The Terraform module service-account makes it
// the same way. An alias may not contain all that a user's name may, so it is a hash;
// 64 bits of it, because who could make a user with the same could make that user too.
func aliasOf(user string) string {
	sum := sha256.Sum256([]byte(user))
	return "service-" + hex.EncodeToString(sum[:8])
}
