"""Stripe's own library beside our signatures and our simulated Stripe.

Reads one JSON object a line, answers one a line:
  {"do": "verify", "body", "header", "secret", "tolerance"} -> {"ok", "why"}
  {"do": "sign", "body", "secret", "at"} -> {"header"}
  {"do": "calls", "url", "key", "order"} -> what creating, retrieving and refunding gave
"""

import json
import sys

import stripe


def verify(ask):
    try:
        stripe.Webhook.construct_event(ask["body"], ask["header"], ask["secret"], tolerance=ask["tolerance"])
        return {"ok": True, "why": None}
    except stripe.SignatureVerificationError as why:
        return {"ok": False, "why": str(why)}


def sign(ask):
    signature = stripe.WebhookSignature._compute_signature(f"{ask['at']}.{ask['body']}", ask["secret"])
    return {"header": f"t={ask['at']},v1={signature}"}


def calls(ask):
    client = stripe.StripeClient(ask["key"], base_addresses={"api": ask["url"]})
    sessions = client.v1.checkout.sessions
    params = {
        "mode": "payment",
        "client_reference_id": ask["order"],
        "line_items": [
            {
                "quantity": 1,
                "price_data": {"currency": "usd", "unit_amount": 500, "product_data": {"name": "Top-up"}},
            }
        ],
        "success_url": "http://127.0.0.1/",
    }
    made = sessions.create(params, options={"idempotency_key": ask["order"]})
    again = sessions.create(params, options={"idempotency_key": ask["order"]})
    found = sessions.retrieve(made.id)
    try:
        stripe.StripeClient("sk_test_wrong", base_addresses={"api": ask["url"]}).v1.checkout.sessions.retrieve(made.id)
        refused = None
    except stripe.AuthenticationError as why:
        refused = why.http_status
    return {"id": made.id, "again": again.id, "status": found.payment_status, "amount": found.amount_total, "refused": refused}


for line in sys.stdin:
    ask = json.loads(line)
    answer = {"verify": verify, "sign": sign, "calls": calls}[ask["do"]](ask)
    print(json.dumps(answer), flush=True)
