// Access tokens of Portcullis, checked in nginx. Runs in the njs of Debian 12 (0.7.9) and later.
//
// Each check answers the question of `auth_request`: 204 with who it is, 401, 403, or 503 when it
// cannot tell, which nginx makes a 500 of. Nothing is let through by an error.

export default { offline, introspection };

// The token of the one Authorization header there may be; undefined when there is none.
function bearer(r) {
    const headers = r.rawHeadersIn.filter(h => h[0].toLowerCase() == 'authorization');
    const found = headers.length == 1 && /^Bearer +([\w.~+\/-]+=*)$/i.exec(headers[0][1]);
    return found ? found[1] : undefined;
}

function refuse(r, status, error) {
    r.headersOut['Token-Challenge'] = error ? `Bearer error="${error}"` : 'Bearer';
    r.return(status);
}

// What is asked of the claims, however they became known to be true.
function judge(r, claims) {
    const wanted = r.variables;
    const good = claims.iss === wanted.token_issuer
        && claims.aud === wanted.token_audience
        && typeof claims.exp == 'number' && claims.exp > Date.now() / 1000
        && typeof claims.client_id == 'string'
        // Bound to a key (DPoP): whoever sends it as Bearer has no proof that it is theirs.
        && claims.cnf === undefined;
    if (!good) {
        return refuse(r, 401, 'invalid_token');
    }
    const scope = String(claims.scope || '');
    if (!scope.split(' ').includes(wanted.token_scope)) {
        return refuse(r, 403, 'insufficient_scope');
    }
    r.headersOut['Token-Client'] = claims.client_id;
    r.headersOut['Token-Scope'] = scope;
    r.return(204);
}

function json(part) {
    return JSON.parse(Buffer.from(part, 'base64url').toString());
}

// A P-256 key as Web Crypto here takes it: SubjectPublicKeyInfo, which is the same up to the point.
function imported(jwk) {
    const start = Buffer.from('3059301306072a8648ce3d020106082a8648ce3d03010703420004', 'hex');
    const point = [jwk.x, jwk.y].map(part => Buffer.from(part, 'base64url'));
    const spki = Buffer.concat([start].concat(point));
    return crypto.subtle.importKey('spki', spki, { name: 'ECDSA', namedCurve: 'P-256' }, false, ['verify']);
}

// The claims of a token that a key of the set has signed, or undefined.
async function verified(token, keys) {
    const parts = token.split('.');
    if (parts.length != 3) {
        return undefined;
    }
    let header, claims;
    try {
        header = json(parts[0]);
        claims = json(parts[1]);
    } catch (e) {
        return undefined;
    }
    // The algorithm is fixed here, and the key is one of Portcullis's: nothing else in the header counts.
    if (header.alg !== 'ES256' || header.typ !== 'at+jwt' || header.crit !== undefined) {
        return undefined;
    }
    const jwk = keys.find(k => k.kid === header.kid && k.kty == 'EC' && k.crv == 'P-256');
    const signature = Buffer.from(parts[2], 'base64url');
    if (!jwk || signature.length != 64 || signature.toString('base64url') !== parts[2]) {
        return undefined;
    }
    const key = await imported(jwk);
    const message = Buffer.from(`${parts[0]}.${parts[1]}`);
    const signed = await crypto.subtle.verify({ name: 'ECDSA', hash: 'SHA-256' }, key, signature, message);
    return signed ? claims : undefined;
}

async function offline(r) {
    const token = bearer(r);
    if (!token) {
        return refuse(r, 401);
    }
    const answer = await r.subrequest('/_portcullis/keys');
    if (answer.status != 200) {
        return r.return(503);
    }
    const claims = await verified(token, JSON.parse(answer.responseText).keys);
    return claims ? judge(r, claims) : refuse(r, 401, 'invalid_token');
}

async function introspection(r) {
    const token = bearer(r);
    if (!token) {
        return refuse(r, 401);
    }
    const body = `token=${encodeURIComponent(token)}`;
    const answer = await r.subrequest('/_portcullis/introspect', { method: 'POST', body });
    if (answer.status != 200) {
        return r.return(503);
    }
    const said = JSON.parse(answer.responseText);
    return said.active === true ? judge(r, said) : refuse(r, 401, 'invalid_token');
}
