-- Asks Portcullis about the token in txn.token and puts its answer, JSON, into txn.answer.
-- Any other answer than 200 leaves txn.answer unset.

-- The API's key. HAProxy reads it when it starts, as root; nobody else may.
local file = assert(io.open("/etc/haproxy/portcullis/key", "r"))
local key = file:read("l")
file:close()

core.register_action("introspect", { "http-req" }, function(txn)
    local answer = core.httpclient():post {
        url = "http://access.acme.example/oauth/introspect",
        dst = "abns@portcullis",
        headers = {
            ["authorization"] = { "Basic " .. txn.c:base64(key) },
            ["content-type"] = { "application/x-www-form-urlencoded" },
        },
        body = "token=" .. txn:get_var("txn.token"),
        timeout = 5000,
    }
    if answer and answer.status == 200 then
        txn:set_var("txn.answer", answer.body)
    end
end)
