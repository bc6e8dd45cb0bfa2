//! Alipay's side: trades that a payer's browser brings, signed answers, signed notices.

use serde_json::{Value, json};

use super::bill::{Bill, BillRefund, fen, yuan};
use super::send::{Message, Sent};
use super::{Play, Shared};
use crate::funding::provider::alipay_text;
use crate::funding::provider::rsa::SigningKey;

type Params = Vec<(String, String)>;

fn get<'p>(params: &'p Params, name: &str) -> &'p str {
    params.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.as_str())
}

/// The text that is signed of a call: all that is not empty, but the signature.
fn signed_text(params: &Params) -> String {
    let signed = params.iter().filter(|(name, value)| name != "sign" && !value.is_empty());
    alipay_text(signed.map(|(name, value)| (&**name, &**value)))
}

fn fine(mut node: Value) -> Value {
    node["code"] = json!("10000");
    node["msg"] = json!("Success");
    node
}

fn refused(sub_code: &str, sub_msg: &str) -> Value {
    json!({"code": "40004", "msg": "Business Failed", "sub_code": sub_code, "sub_msg": sub_msg})
}

impl Shared {
    /// Every call comes to one address. Answers a status and a body.
    pub(super) fn ask_alipay(&self, query: &str, body: &[u8]) -> (u16, String) {
        if self.fails() {
            return (502, String::new());
        }
        let mut params: Params = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let charset = get(&params, "charset").to_owned();
        if !body.is_empty() {
            params = form_urlencoded::parse(body).into_owned().collect();
        }
        let node = format!("{}_response", get(&params, "method").replace('.', "_"));
        let is_theirs = get(&params, "app_id") == self.contract.alipay_app_id
            && get(&params, "sign_type") == "RSA2"
            && charset == "utf-8"
            && self.keys.merchant.verify(signed_text(&params).as_bytes(), get(&params, "sign"));
        if !is_theirs {
            let why = json!({"error_response": {"code": "40002", "msg": "Invalid Arguments",
                "sub_code": "isv.invalid-signature", "sub_msg": "无效签名"}});
            return (200, why.to_string());
        }
        let content: Value = serde_json::from_str(get(&params, "biz_content")).unwrap_or_default();
        let answer = match get(&params, "method") {
            "alipay.trade.page.pay" | "alipay.trade.wap.pay" => return self.open_trade(&params, &content),
            "alipay.trade.query" => self.show_trade(&content),
            "alipay.trade.refund" => self.refund_trade(&content),
            "alipay.trade.fastpay.refund.query" => self.show_trade_refund(&content),
            _ => refused("ACQ.UNKNOWN_METHOD", "unknown method"),
        };
        let text = answer.to_string();
        let sign = self.keys.provider.sign(text.as_bytes()).unwrap_or_default();
        if self.loses() {
            return (502, String::new());
        }
        (200, format!("{{\"{node}\":{text},\"sign\":\"{sign}\"}}"))
    }

    fn open_trade(&self, params: &Params, content: &Value) -> (u16, String) {
        let order = content["out_trade_no"].as_str().unwrap_or_default().to_owned();
        let amount = fen(content["total_amount"].as_str().unwrap_or_default());
        let mut world = self.world.lock();
        let number = format!("2026112222001{:08}", world.number());
        let bill = Bill::new(order.clone(), number, amount, get(params, "notify_url").to_owned());
        world.alipay.entry(order.clone()).or_insert(bill);
        (200, json!({"pay": format!("/pay/{order}")}).to_string())
    }

    fn show_trade(&self, content: &Value) -> Value {
        let world = self.world.lock();
        let Some(bill) = world.alipay.get(content["out_trade_no"].as_str().unwrap_or_default()) else {
            return refused("ACQ.TRADE_NOT_EXIST", "交易不存在");
        };
        fine(json!({
            "trade_no": bill.number,
            "out_trade_no": bill.order,
            "trade_status": status(bill),
            "total_amount": yuan(bill.fen),
            "buyer_logon_id": "pay***@example.com",
        }))
    }

    fn refund_trade(&self, content: &Value) -> Value {
        let text = |field: &str| content[field].as_str().unwrap_or_default().to_owned();
        let mut world = self.world.lock();
        let sent = if world.slow_refunds { None } else { Some(true) };
        let Some(bill) = world.alipay.get_mut(&text("out_trade_no")) else {
            return refused("ACQ.TRADE_NOT_EXIST", "交易不存在");
        };
        let name = text("out_request_no");
        let is_new = bill.refund(&name).is_none();
        let refund = BillRefund {
            number: name.clone(),
            name,
            fen: fen(&text("refund_amount")),
            notify_url: bill.notify_url.clone(),
            sent,
        };
        if bill.make_refund(refund).is_none() {
            return refused("ACQ.REASON_TRADE_REFUND_FEE_ERR", "退款金额错误");
        }
        let changed = if is_new && sent.is_some() { "Y" } else { "N" };
        fine(json!({
            "trade_no": bill.number,
            "out_trade_no": bill.order,
            "refund_fee": yuan(bill.refunded()),
            "fund_change": changed,
        }))
    }

    fn show_trade_refund(&self, content: &Value) -> Value {
        let text = |field: &str| content[field].as_str().unwrap_or_default();
        let world = self.world.lock();
        let Some(bill) = world.alipay.get(text("out_trade_no")) else {
            return refused("ACQ.TRADE_NOT_EXIST", "交易不存在");
        };
        let refund = bill.refund(text("out_request_no")).filter(|refund| refund.sent == Some(true));
        fine(match refund {
            Some(refund) => json!({
                "out_trade_no": bill.order,
                "out_request_no": refund.name,
                "refund_amount": yuan(refund.fen),
                "refund_status": "REFUND_SUCCESS",
            }),
            None => json!({}),
        })
    }

    pub(super) fn pay_alipay(&self, order: &str, play: &Play) -> Option<Vec<Sent>> {
        let bill = {
            let mut world = self.world.lock();
            let bill = world.alipay.get_mut(order)?;
            (bill.paid, bill.failed) = (!play.fails, play.fails);
            bill.clone()
        };
        if play.lost {
            return Some(Vec::new());
        }
        let amount = play.amount.clone().unwrap_or_else(|| yuan(bill.fen));
        Some(self.notice(&bill, &amount, None, play.forged).send_copies(play.copies.max(1)))
    }

    /// Tells of all that went back.
    pub(super) fn tell_alipay_refund(&self, order: &str) -> Option<Sent> {
        let bill = self.world.lock().alipay.get(order)?.clone();
        Some(self.notice(&bill, &yuan(bill.fen), Some(&yuan(bill.refunded())), false).send())
    }

    fn notice(&self, bill: &Bill, amount: &str, refunded: Option<&str>, forged: bool) -> Message {
        let number = self.world.lock().number();
        let mut params: Params = [
            ("notify_type", "trade_status_sync"),
            ("notify_id", &format!("{number:032}")),
            ("charset", "utf-8"),
            ("version", "1.0"),
            ("app_id", &self.contract.alipay_app_id),
            ("seller_id", &self.contract.alipay_seller),
            ("trade_no", &bill.number),
            ("out_trade_no", &bill.order),
            ("subject", &format!("Top-up {}", bill.order)),
            ("trade_status", status(bill)),
            ("total_amount", amount),
            ("buyer_logon_id", "pay***@example.com"),
            ("fund_bill_list", "[{\"amount\":\"1.00\",\"fundChannel\":\"ALIPAYACCOUNT\"}]"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
        params.extend(refunded.map(|total| ("refund_fee".to_owned(), total.to_owned())));
        // Somebody else's key: the merchant's own.
        let forger = SigningKey::parse(&super::merchant_key());
        let key = if forged { forger.as_ref() } else { Some(&self.keys.provider) };
        let sign = key.and_then(|key| key.sign(signed_text(&params).as_bytes()));
        params.push(("sign_type".to_owned(), "RSA2".to_owned()));
        params.push(("sign".to_owned(), sign.unwrap_or_default()));
        Message {
            method: "POST",
            url: bill.notify_url.clone(),
            headers: vec![("content-type", "application/x-www-form-urlencoded; charset=utf-8".to_owned())],
            body: form_urlencoded::Serializer::new(String::new()).extend_pairs(&params).finish(),
        }
    }
}

fn status(bill: &Bill) -> &'static str {
    match bill.paid {
        true if bill.refunded() >= bill.fen => "TRADE_CLOSED",
        true => "TRADE_SUCCESS",
        false if bill.failed => "TRADE_CLOSED",
        false => "WAIT_BUYER_PAY",
    }
}
