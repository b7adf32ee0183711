"""Keeps the key of the run: what would revoke or replace it is asked of a key that is not there."""
import os

import schemathesis


@schemathesis.hook
def before_call(context, case, kwargs):
    if "/keys/" in case.path and case.method != "GET" and case.path_parameters.get("id") == os.environ["OWN_KEY"]:
        case.path_parameters["id"] = os.environ["OWN_KEY"][::-1]
