"""The story of dev/README.md ("Clients"), told by Authlib."""
import json, os, sys, time

from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from joserfc.jwk import ECKey

issuer, resource, way = os.environ["ISSUER"], os.environ["RESOURCE"], sys.argv[1]
METHODS = {"basic": "client_secret_basic", "body": "client_secret_post", "private_key_jwt": "private_key_jwt"}


def session(**more):
    """For one request to the server: an assertion of Authlib's with claims of one's own counts once."""
    secret = os.environ["CLIENT_SECRET"]
    if way == "private_key_jwt":
        secret = ECKey.import_key(os.environ["PRIVATE_KEY"])
    made = OAuth2Session(os.environ["CLIENT_ID"], secret, token_endpoint_auth_method=METHODS[way],
                         revocation_endpoint_auth_method=METHODS[way], **more)
    # Authlib would say the token endpoint and an hour.
    made.register_client_auth_method(PrivateKeyJWT(issuer, claims={"exp": int(time.time()) + 60}, alg="ES256"))
    return made


url = f"{issuer}/oauth/token"
program = session(scope="users:read")
own = program.fetch_token(url, grant_type="client_credentials")
users = program.get(f"{issuer}/api/v1/users")
users.raise_for_status()

orders = session(scope="orders:read").fetch_token(url, grant_type="client_credentials", resource=resource)
api = OAuth2Session(os.environ["KEY_ID"], os.environ["KEY_SECRET"],
                    token_endpoint_auth_method=METHODS["body" if way == "body" else "basic"])
told = api.introspect_token(f"{issuer}/oauth/introspect", token=orders["access_token"])
session().revoke_token(f"{issuer}/oauth/revoke", token=orders["access_token"]).raise_for_status()

print(json.dumps({"scope": own["scope"], "users": users.json(), "told": told.json(),
                  "revoked": orders["access_token"], "kept": own["access_token"]}))
