//! WeChat Pay's side: signed answers to signed calls, sealed and signed notices.

use axum::http::{HeaderMap, Method, Uri};
use serde_json::{Value, json};

use super::bill::{Bill, BillRefund, CURRENCY, fen};
use super::send::{Message, Sent};
use super::{Play, Shared};
use crate::funding::provider::rsa::SigningKey;
use crate::funding::provider::wechat::{Call, SCHEME, SealKey, signed_text};

/// How old the signature of a call may be, in seconds.
const TOLERANCE_S: u64 = 300;

/// Status, body, and the headers that sign it.
pub(super) type Signed = (u16, String, Vec<(&'static str, String)>);

fn wrong(status: u16, code: &str, message: &str) -> (u16, Value) {
    (status, json!({"code": code, "message": message}))
}

/// `name="value"` pairs behind the scheme.
fn authorization(headers: &HeaderMap) -> Option<Vec<(&str, &str)>> {
    let pairs = headers.get("authorization")?.to_str().ok()?.strip_prefix(SCHEME)?.trim_start();
    pairs
        .split(',')
        .map(|pair| pair.split_once('=').map(|(name, value)| (name, value.trim_matches('"'))))
        .collect()
}

impl Shared {
    pub(super) fn ask_wechat(&self, method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Signed {
        let (status, answer) = match self.fails() {
            true => wrong(500, "SYSTEM_ERROR", "系统错误"),
            false if !self.is_the_merchant(method, uri, headers, body) => {
                wrong(401, "SIGN_ERROR", "签名错误")
            }
            false => self.answer_wechat(method, uri, body),
        };
        let (status, answer) =
            if self.loses() { wrong(500, "SYSTEM_ERROR", "系统错误") } else { (status, answer) };
        let text = answer.to_string();
        let signed = self.signed(&self.keys.provider, text.as_bytes());
        (status, text, signed)
    }

    fn is_the_merchant(&self, method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> bool {
        let Some(pairs) = authorization(headers) else { return false };
        let get =
            |wanted: &str| pairs.iter().find(|(name, _)| *name == wanted).map_or("", |(_, value)| *value);
        let at_s: i64 = get("timestamp").parse().unwrap_or(0);
        let call = Call {
            method: method.as_str(),
            path: uri.path_and_query().map_or("", |path| path.as_str()),
            body: std::str::from_utf8(body).unwrap_or_default(),
            at_s,
            nonce: get("nonce_str"),
        };
        get("mchid") == self.contract.wechat_merchant
            && get("serial_no") == self.contract.wechat_serial
            && (self.clock.now_ms() / 1_000).abs_diff(at_s) <= TOLERANCE_S
            && self.keys.merchant.verify(call.text().as_bytes(), get("signature"))
    }

    fn answer_wechat(&self, method: &Method, uri: &Uri, body: &[u8]) -> (u16, Value) {
        let asked: Value = serde_json::from_slice(body).unwrap_or_default();
        let post = method == Method::POST;
        match uri.path().trim_start_matches("/v3/") {
            "pay/transactions/native" if post => self.open_bill(&asked),
            "refund/domestic/refunds" if post => self.refund_bill(&asked),
            path => match path.rsplit_once('/') {
                Some(("pay/transactions/out-trade-no", order)) => self.show_bill(order),
                Some(("refund/domestic/refunds", name)) => self.show_bill_refund(name),
                _ => wrong(404, "NOT_FOUND", "no such address"),
            },
        }
    }

    fn open_bill(&self, asked: &Value) -> (u16, Value) {
        let text = |field: &str| asked[field].as_str().unwrap_or_default().to_owned();
        let is_theirs =
            text("mchid") == self.contract.wechat_merchant && text("appid") == self.contract.wechat_app_id;
        let total = asked["amount"]["total"].as_i64().filter(|total| *total > 0);
        let Some(total) = total.filter(|_| is_theirs && asked["amount"]["currency"] == CURRENCY) else {
            return wrong(400, "PARAM_ERROR", "参数错误");
        };
        let order = text("out_trade_no");
        let mut world = self.world.lock();
        let number = format!("42000000{:08}", world.number());
        let bill = Bill::new(order.clone(), number, total, text("notify_url"));
        world.wechat.entry(order.clone()).or_insert(bill);
        (200, json!({"code_url": format!("weixin://wxpay/bizpayurl?pr={order}")}))
    }

    fn trade(&self, bill: &Bill, total: i64) -> Value {
        let state = match bill.paid {
            true if bill.refunded() > 0 => "REFUND",
            true => "SUCCESS",
            false if bill.failed => "PAYERROR",
            false => "NOTPAY",
        };
        let mut trade = json!({
            "appid": self.contract.wechat_app_id,
            "mchid": self.contract.wechat_merchant,
            "out_trade_no": bill.order,
            "trade_state": state,
            "trade_state_desc": state,
            "amount": {"total": total, "payer_total": total, "currency": CURRENCY, "payer_currency": CURRENCY},
        });
        if bill.paid {
            trade["transaction_id"] = json!(bill.number);
            trade["trade_type"] = json!("NATIVE");
            trade["payer"] = json!({"openid": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"});
        }
        trade
    }

    fn show_bill(&self, order: &str) -> (u16, Value) {
        let bill = self.world.lock().wechat.get(order).cloned();
        match bill {
            Some(bill) => (200, self.trade(&bill, bill.fen)),
            None => wrong(404, "ORDER_NOT_EXIST", "订单不存在"),
        }
    }

    fn refund_bill(&self, asked: &Value) -> (u16, Value) {
        let text = |field: &str| asked[field].as_str().unwrap_or_default().to_owned();
        let mut world = self.world.lock();
        let number = format!("50300000{:08}", world.number());
        let sent = if world.slow_refunds { None } else { Some(true) };
        let Some(bill) = world.wechat.get_mut(&text("out_trade_no")) else {
            return wrong(404, "RESOURCE_NOT_EXISTS", "订单不存在");
        };
        let refund = BillRefund {
            name: text("out_refund_no"),
            number,
            fen: asked["amount"]["refund"].as_i64().unwrap_or(0),
            notify_url: text("notify_url"),
            sent,
        };
        if asked["amount"]["total"].as_i64() != Some(bill.fen) {
            return wrong(400, "PARAM_ERROR", "订单金额不一致");
        }
        match bill.make_refund(refund) {
            Some(refund) => (200, self.shown_refund(&refund.clone(), bill)),
            None => wrong(400, "INVALID_REQUEST", "订单金额或退款金额与之前请求不一致"),
        }
    }

    fn show_bill_refund(&self, name: &str) -> (u16, Value) {
        let world = self.world.lock();
        let found = world.wechat.values().find_map(|bill| Some((bill.refund(name)?, bill)));
        match found {
            Some((refund, bill)) => (200, self.shown_refund(refund, bill)),
            None => wrong(404, "RESOURCE_NOT_EXISTS", "退款单不存在"),
        }
    }

    fn shown_refund(&self, refund: &BillRefund, bill: &Bill) -> Value {
        let status = match refund.sent {
            None => "PROCESSING",
            Some(true) => "SUCCESS",
            Some(false) => "CLOSED",
        };
        json!({
            "refund_id": refund.number,
            "out_refund_no": refund.name,
            "transaction_id": bill.number,
            "out_trade_no": bill.order,
            "status": status,
            "amount": {"total": bill.fen, "refund": refund.fen, "currency": CURRENCY},
        })
    }

    pub(super) fn pay_wechat(&self, order: &str, play: &Play) -> Option<Vec<Sent>> {
        let bill = {
            let mut world = self.world.lock();
            let bill = world.wechat.get_mut(order)?;
            (bill.paid, bill.failed) = (!play.fails, play.fails);
            bill.clone()
        };
        if play.lost || play.fails {
            return Some(Vec::new());
        }
        let total = play.amount.as_deref().map_or(bill.fen, fen);
        let content = self.trade(&bill, total);
        let message = self.sealed_notice("TRANSACTION.SUCCESS", &content, &bill.notify_url, play.forged);
        Some(message.send_copies(play.copies.max(1)))
    }

    /// Tells what became of the last refund.
    pub(super) fn tell_wechat_refund(&self, order: &str) -> Option<Sent> {
        let bill = self.world.lock().wechat.get(order)?.clone();
        let refund = bill.refunds.last()?;
        let sent = refund.sent?;
        let (kind, status) = if sent { ("REFUND.SUCCESS", "SUCCESS") } else { ("REFUND.CLOSED", "CLOSED") };
        let content = json!({
            "mchid": self.contract.wechat_merchant,
            "out_trade_no": bill.order,
            "transaction_id": bill.number,
            "out_refund_no": refund.name,
            "refund_id": refund.number,
            "refund_status": status,
            "amount": {"total": bill.fen, "refund": refund.fen, "payer_total": bill.fen, "payer_refund": refund.fen},
        });
        let url = if refund.notify_url.is_empty() { &bill.notify_url } else { &refund.notify_url };
        Some(self.sealed_notice(kind, &content, url, false).send())
    }

    fn sealed_notice(&self, kind: &str, content: &Value, url: &str, forged: bool) -> Message {
        let number = self.world.lock().number();
        let seal = SealKey::parse(&self.contract.wechat_v3_key);
        let nonce = format!("{number:012}");
        let resource = seal.and_then(|seal| seal.seal(&nonce, "transaction", content.to_string().as_bytes()));
        let body = json!({
            "id": format!("notice-{number:08}"),
            "create_time": "2026-11-22T16:00:00+08:00",
            "resource_type": "encrypt-resource",
            "event_type": kind,
            "summary": kind,
            "resource": resource,
        })
        .to_string();
        // Somebody else's key: the merchant's own.
        let forger = SigningKey::parse(&super::merchant_key()).filter(|_| forged);
        let signed = self.signed(forger.as_ref().unwrap_or(&self.keys.provider), body.as_bytes());
        let mut headers = vec![("content-type", "application/json".to_owned())];
        headers.extend(signed);
        Message { method: "POST", url: url.to_owned(), headers, body }
    }

    fn signed(&self, key: &SigningKey, body: &[u8]) -> Vec<(&'static str, String)> {
        let number = self.world.lock().number();
        let (at, nonce) = ((self.clock.now_ms() / 1_000).to_string(), format!("nonce{number:08}"));
        let signature = key.sign(&signed_text(&at, &nonce, body)).unwrap_or_default();
        vec![
            ("Wechatpay-Timestamp", at),
            ("Wechatpay-Nonce", nonce),
            ("Wechatpay-Signature", signature),
            ("Wechatpay-Signature-Type", SCHEME.to_owned()),
            ("Wechatpay-Serial", self.contract.wechat_platform_id.clone()),
        ]
    }
}
