//! What the simulated providers' statements say of all that was paid and sent back, in the providers' own formats.

use std::fmt::Write as _;

use super::bill::{Bill, yuan};
use super::epay::Trade;
use super::{Payments, World};
use crate::funding::money;

impl Payments {
    /// The statement of one provider; `None`: it gives none. Every row has the time of the statement.
    pub fn statement(&self, provider: &str) -> Option<String> {
        let world = self.shared.world.lock();
        let at = jiff::Timestamp::from_millisecond(self.shared.clock.now_ms()).ok()?;
        let china = at.to_zoned(jiff::tz::TimeZone::get("Asia/Shanghai").ok()?);
        let (utc, china) = (at.strftime("%Y-%m-%d %H:%M:%S"), china.strftime("%Y-%m-%d %H:%M:%S"));
        match provider {
            "stripe" => stripe(&world, &utc.to_string()),
            "epay" => epay(&world, &china.to_string()),
            "alipay" => alipay(world.alipay.values(), &china.to_string()),
            "wechat" => wechat(world.wechat.values(), &china.to_string()),
            _ => None,
        }
    }
}

/// The itemized balance change from activity.
fn stripe(world: &World, at: &str) -> Option<String> {
    let mut out =
        "balance_transaction_id,created_utc,currency,gross,fee,net,reporting_category,payment_intent_id\n"
            .to_owned();
    for session in world.sessions.values().filter(|session| session.paid) {
        let (payment, currency) = (&session.payment, &session.currency);
        let mut row = |category: &str, minor: i64| {
            let upper = currency.to_ascii_uppercase();
            let amount = money::text(money::from_minor(minor, &upper)?, &upper);
            writeln!(
                out,
                "txn_{category}_{payment},{at},{currency},{amount},0.00,{amount},{category},{payment}"
            )
            .ok()
        };
        row("charge", session.amount)?;
        if session.refunded > 0 {
            row("refund", -session.refunded)?;
        }
        if let Some(dispute) = world.disputes.iter().find(|dispute| dispute.payment == session.payment) {
            row("dispute", -dispute.amount)?;
            if dispute.won {
                row("dispute_reversal", dispute.amount)?;
            }
        }
    }
    Some(out)
}

/// What a platform exports of its trades: each with what went back of it.
fn epay(world: &World, at: &str) -> Option<String> {
    let mut out = "trade_no,out_trade_no,type,money,refundmoney,endtime\n".to_owned();
    for trade in world.trades.values().filter(|trade| trade.paid) {
        let Trade { number, order, method, money, refunded, .. } = trade;
        writeln!(out, "{number},{order},{method},{money},{},{at}", yuan(*refunded)).ok()?;
    }
    Some(out)
}

fn alipay<'b>(bills: impl Iterator<Item = &'b Bill>, at: &str) -> Option<String> {
    let mut out =
        "#支付宝业务明细查询\n支付宝交易号,商户订单号,业务类型,完成时间,订单金额（元）,商家实收（元）\n"
            .to_owned();
    for bill in bills.filter(|bill| bill.paid) {
        let Bill { number, order, .. } = bill;
        let paid = yuan(bill.fen);
        writeln!(out, "{number}\t,{order}\t,交易    ,{at},{paid},{paid}").ok()?;
        for refund in bill.refunds.iter().filter(|refund| refund.sent == Some(true)) {
            let sent = yuan(refund.fen);
            writeln!(out, "{number}\t,{order}\t,退款    ,{at},-{sent},-{sent}").ok()?;
        }
    }
    writeln!(out, "#-----------------业务明细列表结束-----------------").ok()?;
    Some(out)
}

fn wechat<'b>(bills: impl Iterator<Item = &'b Bill>, at: &str) -> Option<String> {
    let mut out =
        "交易时间,微信订单号,商户订单号,交易状态,货币种类,退款金额,订单金额,申请退款金额\n".to_owned();
    let mut rows = 0;
    for bill in bills.filter(|bill| bill.paid) {
        let Bill { number, order, .. } = bill;
        rows += 1;
        writeln!(out, "`{at},`{number},`{order},`SUCCESS,`CNY,`0.00,`{},`0.00", yuan(bill.fen)).ok()?;
        for refund in bill.refunds.iter().filter(|refund| refund.sent == Some(true)) {
            let sent = yuan(refund.fen);
            rows += 1;
            writeln!(out, "`{at},`{number},`{order},`REFUND,`CNY,`{sent},`0.00,`{sent}").ok()?;
        }
    }
    writeln!(out, "总交易单数,应结订单总金额\n`{rows},`0.00").ok()?;
    Some(out)
}
