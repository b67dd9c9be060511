"""The story of dev/README.md ("Clients"), told by requests-oauthlib, which does not introspect."""
import json, os, sys

from oauthlib.oauth2 import BackendApplicationClient
from requests.auth import HTTPBasicAuth
from requests_oauthlib import OAuth2Session

issuer, resource = os.environ["ISSUER"], os.environ["RESOURCE"]
client_id, secret = os.environ["CLIENT_ID"], os.environ["CLIENT_SECRET"]
basic = sys.argv[1] == "basic"


def fetched(scope, **more):
    program = OAuth2Session(client=BackendApplicationClient(client_id, scope=scope))
    how = {"auth": HTTPBasicAuth(client_id, secret)} if basic else {"client_secret": secret, "include_client_id": True}
    return program, program.fetch_token(f"{issuer}/oauth/token", **how, **more)


program, own = fetched(["users:read"])
users = program.get(f"{issuer}/api/v1/users")
users.raise_for_status()
_, orders = fetched(["orders:read"], resource=resource)
other = OAuth2Session(client=BackendApplicationClient(client_id))
# Its own way of revoking only prepares the request.
url, headers, body = other._client.prepare_token_revocation_request(f"{issuer}/oauth/revoke", orders["access_token"])
other.request("POST", url, headers=headers, data=body, auth=HTTPBasicAuth(client_id, secret),
              withhold_token=True).raise_for_status()

print(json.dumps({"scope": " ".join(own["scope"]), "users": users.json(),
                  "revoked": orders["access_token"], "kept": own["access_token"]}))
