"""The story of dev/README.md ("Clients"), told by Authlib."""
import json, os, sys

from authlib.integrations.requests_client import OAuth2Session

issuer, resource = os.environ["ISSUER"], os.environ["RESOURCE"]
way = {"basic": "client_secret_basic", "body": "client_secret_post"}[sys.argv[1]]


def session(who, **more):
    return OAuth2Session(os.environ[f"{who}_ID"], os.environ[f"{who}_SECRET"], token_endpoint_auth_method=way,
                         revocation_endpoint_auth_method=way, **more)


url = f"{issuer}/oauth/token"
program = session("CLIENT", scope="users:read")
own = program.fetch_token(url, grant_type="client_credentials")
users = program.get(f"{issuer}/api/v1/users")
users.raise_for_status()

other = session("CLIENT", scope="orders:read")
orders = other.fetch_token(url, grant_type="client_credentials", resource=resource)
told = session("KEY").introspect_token(f"{issuer}/oauth/introspect", token=orders["access_token"])
other.revoke_token(f"{issuer}/oauth/revoke", token=orders["access_token"]).raise_for_status()

print(json.dumps({"scope": own["scope"], "users": users.json(), "told": told.json(),
                  "revoked": orders["access_token"], "kept": own["access_token"]}))
