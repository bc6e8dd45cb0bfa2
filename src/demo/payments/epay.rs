//! An epay platform's side: submitted trades, signed notices, questions by merchant number and key.

use serde_json::{Value, json};

use super::send::{Message, Sent};
use super::{Play, Shared};
use crate::funding::provider::epay_signature;
use crate::secret::Secret;

#[derive(Clone, Debug)]
pub(super) struct Trade {
    pub number: String,
    pub order: String,
    pub money: String,
    pub method: String,
    pub name: String,
    pub notify_url: String,
    pub paid: bool,
    /// In hundredths.
    pub refunded: i64,
}

type Params = Vec<(String, String)>;

fn get<'p>(params: &'p Params, name: &str) -> &'p str {
    params.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.as_str())
}

fn hundredths(money: &str) -> i64 {
    ledger::Nano::parse_decimal(money).map_or(0, |amount| amount.0 / 10_000_000)
}

impl Shared {
    fn sign(&self, params: &Params, key: &Secret) -> String {
        let pairs = params.iter().map(|(name, value)| (&**name, &**value));
        epay_signature(pairs, key, self.contract.epay_signature)
    }

    /// What a payer's browser brings.
    pub(super) fn submit(&self, query: &[u8]) -> (u16, Value) {
        let params: Params = form_urlencoded::parse(query).into_owned().collect();
        if get(&params, "pid") != self.contract.epay_merchant
            || get(&params, "sign") != self.sign(&params, &self.contract.epay_key)
        {
            return (403, json!({"code": -3, "msg": "签名校验失败"}));
        }
        let mut world = self.world.lock();
        let number = world.number();
        let order = get(&params, "out_trade_no").to_owned();
        let method = Some(get(&params, "type")).filter(|method| !method.is_empty()).unwrap_or("alipay");
        let trade = Trade {
            number: format!("20261122{number:08}"),
            order: order.clone(),
            money: get(&params, "money").to_owned(),
            method: method.to_owned(),
            name: get(&params, "name").to_owned(),
            notify_url: get(&params, "notify_url").to_owned(),
            paid: false,
            refunded: 0,
        };
        world.trades.entry(order.clone()).or_insert(trade);
        (200, json!({"pay": format!("/pay/{order}")}))
    }

    pub(super) fn ask_epay(&self, query: &str, body: &[u8]) -> (u16, Value) {
        if self.fails() {
            return (502, Value::Null);
        }
        let mut params: Params = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        params.extend(form_urlencoded::parse(body).into_owned());
        let knows = self.contract.epay_key.matches(get(&params, "key").as_bytes());
        if !knows || get(&params, "pid") != self.contract.epay_merchant {
            return (200, json!({"code": -3, "msg": "商户ID或密钥不正确"}));
        }
        if get(&params, "act") == "query" {
            return (
                200,
                json!({"code": 1, "pid": self.contract.epay_merchant, "active": 1, "money": "0.00"}),
            );
        }
        let mut world = self.world.lock();
        let Some(trade) = world.trades.get_mut(get(&params, "out_trade_no")) else {
            return (200, json!({"code": -1, "msg": "订单号不存在"}));
        };
        if get(&params, "act") == "refund" {
            let back = hundredths(get(&params, "money"));
            if !trade.paid || back <= 0 || trade.refunded + back > hundredths(&trade.money) {
                return (200, json!({"code": -1, "msg": "退款金额超出"}));
            }
            trade.refunded += back;
            return (200, json!({"code": 1, "msg": "退款成功"}));
        }
        (
            200,
            json!({
                "code": 1,
                "msg": "查询订单号成功！",
                "trade_no": trade.number,
                "out_trade_no": trade.order,
                "type": trade.method,
                "pid": self.contract.epay_merchant.parse::<u64>().unwrap_or(0),
                "name": trade.name,
                "money": trade.money,
                "status": i32::from(trade.paid),
            }),
        )
    }

    pub(super) fn pay_trade(&self, order: &str, play: &Play) -> Option<Vec<Sent>> {
        let trade = {
            let mut world = self.world.lock();
            let trade = world.trades.get_mut(order)?;
            trade.paid = !play.fails;
            trade.clone()
        };
        if play.lost || play.fails {
            return Some(Vec::new());
        }
        let mut params: Params = [
            ("pid", &*self.contract.epay_merchant),
            ("trade_no", &trade.number),
            ("out_trade_no", &trade.order),
            ("type", &trade.method),
            ("name", &trade.name),
            ("money", play.amount.as_deref().unwrap_or(&trade.money)),
            ("trade_status", "TRADE_SUCCESS"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
        let forged = Secret::new("the key of somebody else");
        let sign = self.sign(&params, if play.forged { &forged } else { &self.contract.epay_key });
        params.push(("sign".to_owned(), sign));
        params.push(("sign_type".to_owned(), "MD5".to_owned()));
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(&params).finish();
        let message = match play.post {
            true => Message {
                method: "POST",
                url: trade.notify_url,
                headers: vec![("content-type", "application/x-www-form-urlencoded".to_owned())],
                body: form,
            },
            false => Message {
                method: "GET",
                url: format!("{}?{form}", trade.notify_url),
                headers: Vec::new(),
                body: String::new(),
            },
        };
        Some(message.send_copies(play.copies.max(1)))
    }
}
