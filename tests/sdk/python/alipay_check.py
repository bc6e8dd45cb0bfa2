"""An independent library for Alipay (python-alipay-sdk) beside our signatures and our simulated Alipay.

Reads one JSON object a line, answers one a line. "key" is the private key that is signed with, "public" the key that
verifies:
  {"do": "verify_call", "query", "public"} -> {"ok"}: the query of a payment's address
  {"do": "verify_notice", "form", "public"} -> {"ok"}: the form of a notice
  {"do": "sign_notice", "params", "key"} -> {"form"}
  {"do": "calls", "url", "app_id", "key", "public", "order"} -> what opening, paying, asking and refunding gave
"""

import json
import sys
import urllib.request
from urllib.parse import parse_qsl, urlencode

from alipay import AliPay
from alipay.exceptions import AliPayException


def client(ask, app_id="2021000000000001"):
    # The library wants both keys; the one that is not needed is the other.
    key = ask.get("key") or OTHER["key"]
    public = ask.get("public") or OTHER["public"]
    return AliPay(
        appid=ask.get("app_id", app_id),
        app_private_key_string=key,
        alipay_public_key_string=public,
        sign_type="RSA2",
    )


OTHER = {}


def keep(ask):
    OTHER.update(key=ask["key"], public=ask["public"])
    return {}


def verify_call(ask):
    params = dict(parse_qsl(ask["query"], keep_blank_values=True))
    sign = params.pop("sign")
    alipay = client(ask)
    # A call's sign_type is signed, a notice's is not.
    text = "&".join(f"{name}={value}" for name, value in alipay._ordered_data(params))
    return {"ok": alipay._verify(text, sign)}


def verify_notice(ask):
    params = dict(parse_qsl(ask["form"], keep_blank_values=True))
    sign = params.pop("sign")
    return {"ok": client(ask).verify(params, sign)}


def sign_notice(ask):
    params = dict(ask["params"])
    alipay = client(ask)
    text = "&".join(f"{name}={value}" for name, value in alipay._ordered_data(params))
    return {"form": urlencode({**params, "sign_type": "RSA2", "sign": alipay._sign(text)})}


def calls(ask):
    alipay = client(ask)
    alipay._gateway = ask["url"] + "/gateway.do"
    order = ask["order"]
    before = alipay.api_alipay_trade_query(out_trade_no=order)
    page = alipay.api_alipay_trade_page_pay(
        subject="Top-up 充值 & more", out_trade_no=order, total_amount="72.50", notify_url=ask["url"] + "/nowhere"
    )
    opened = json.load(urllib.request.urlopen(alipay._gateway + "?" + page))
    urllib.request.urlopen(ask["url"] + opened["pay"] + "?lost=1").read()
    paid = alipay.api_alipay_trade_query(out_trade_no=order)
    back = alipay.api_alipay_trade_refund("2.50", out_trade_no=order, out_request_no="r1")
    again = alipay.api_alipay_trade_refund("2.50", out_trade_no=order, out_request_no="r1")
    found = alipay.api_alipay_trade_fastpay_refund_query("r1", out_trade_no=order)
    try:
        stranger = client({**ask, "key": ask["stranger"]})
        stranger._gateway = alipay._gateway
        refused = stranger.api_alipay_trade_query(out_trade_no=order)
    except AliPayException as why:
        refused = str(why)
    return {
        "before": before["sub_code"],
        "status": paid["trade_status"],
        "amount": paid["total_amount"],
        "changed": [back["fund_change"], again["fund_change"]],
        "refunded": again["refund_fee"],
        "found": found["refund_status"],
        "refused": refused,
    }


DO = {
    "keep": keep,
    "verify_call": verify_call,
    "verify_notice": verify_notice,
    "sign_notice": sign_notice,
    "calls": calls,
}
for line in sys.stdin:
    ask = json.loads(line)
    print(json.dumps(DO[ask["do"]](ask)), flush=True)
