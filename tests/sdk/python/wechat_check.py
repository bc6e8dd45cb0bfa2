"""An independent library for WeChat Pay (wechatpayv3) beside our signatures and our simulated WeChat Pay.

Reads one JSON object a line, answers one a line. "merchant" has what a client is made with:
  {"do": "authorize", "method", "path", "body", "at", "nonce", "merchant"} -> {"authorization"}
  {"do": "open_notice", "headers", "body", "merchant"} -> {"resource"}: null if it is not believed
  {"do": "make_notice", "event_type", "content", "key", "at", "merchant"} -> {"headers", "body"}
  {"do": "calls", "url", "order", "merchant"} -> what paying, asking and refunding gave
"""

import json
import sys
import urllib.request
from base64 import b64encode
from unittest import mock

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from wechatpayv3 import WeChatPay, WeChatPayType, utils


def client(merchant):
    return WeChatPay(
        wechatpay_type=WeChatPayType.NATIVE,
        mchid=merchant["mchid"],
        private_key=merchant["private_key"],
        cert_serial_no=merchant["serial"],
        appid=merchant["appid"],
        apiv3_key=merchant["v3_key"],
        notify_url=merchant["notify_url"],
        public_key=merchant["public_key"],
        public_key_id=merchant["public_key_id"],
    )


def authorize(ask):
    merchant = ask["merchant"]
    with mock.patch("wechatpayv3.utils.time.time", return_value=ask["at"]):
        value = utils.build_authorization(
            ask["path"],
            ask["method"],
            merchant["mchid"],
            merchant["serial"],
            utils.load_private_key(merchant["private_key"]),
            data=ask["body"],
            nonce_str=ask["nonce"],
        )
    return {"authorization": value}


def open_notice(ask):
    opened = client(ask["merchant"]).callback(ask["headers"], ask["body"])
    return {"resource": opened and opened["resource"]}


def make_notice(ask):
    merchant = ask["merchant"]
    nonce, associated = "a1b2c3d4e5f6", "transaction"
    sealed = AESGCM(merchant["v3_key"].encode()).encrypt(
        nonce.encode(), json.dumps(ask["content"], ensure_ascii=False).encode(), associated.encode()
    )
    body = json.dumps(
        {
            "id": "of-the-library",
            "event_type": ask["event_type"],
            "resource_type": "encrypt-resource",
            "summary": "支付成功",
            "resource": {
                "original_type": "transaction",
                "algorithm": "AEAD_AES_256_GCM",
                "ciphertext": b64encode(sealed).decode(),
                "associated_data": associated,
                "nonce": nonce,
            },
        },
        ensure_ascii=False,
        indent=1,
    )
    text = f"{ask['at']}\n{nonce}\n{body}\n"
    headers = {
        "wechatpay-timestamp": str(ask["at"]),
        "wechatpay-nonce": nonce,
        "wechatpay-serial": merchant["public_key_id"],
        "wechatpay-signature": utils.rsa_sign(utils.load_private_key(ask["key"]), text),
    }
    return {"headers": headers, "body": body}


def calls(ask):
    wechat = client(ask["merchant"])
    wechat._core._gate_way = ask["url"]
    order = ask["order"]
    unknown, _ = wechat.query(out_trade_no=order)
    _, made = wechat.pay(description="Top-up 充值", out_trade_no=order, amount={"total": 7250, "currency": "CNY"})
    urllib.request.urlopen(f"{ask['url']}/pay/{order}?lost=1").read()
    _, paid = wechat.query(out_trade_no=order)
    amount = {"refund": 250, "total": 7250, "currency": "CNY"}
    _, back = wechat.refund(out_refund_no="r1", out_trade_no=order, amount=amount)
    _, again = wechat.refund(out_refund_no="r1", out_trade_no=order, amount=amount)
    _, found = wechat.query_refund(out_refund_no="r1")
    stranger = client({**ask["merchant"], "serial": "0" * 40})
    stranger._core._gate_way = ask["url"]
    refused, _ = stranger.query(out_trade_no=order)
    paid, back, again, found = (json.loads(text) for text in (paid, back, again, found))
    return {
        "unknown": unknown,
        "code_url": json.loads(made)["code_url"],
        "state": paid["trade_state"],
        "total": paid["amount"]["total"],
        "refund": [back["status"], again["refund_id"] == back["refund_id"], found["status"]],
        "refused": refused,
    }


DO = {"authorize": authorize, "open_notice": open_notice, "make_notice": make_notice, "calls": calls}
for line in sys.stdin:
    ask = json.loads(line)
    print(json.dumps(DO[ask["do"]](ask)), flush=True)
