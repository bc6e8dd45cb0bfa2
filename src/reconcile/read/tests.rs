//! Files as their makers write them, and what is wrong with others.

use encoding_rs::GB18030;

use super::*;

fn read(format: &Format, bytes: &[u8]) -> Result<Vec<(Row, u64)>, Fault> {
    let mut check = Utf8Check::default();
    check.push(bytes, true);
    let mut found = Vec::new();
    let done = rows(bytes, format, "USD", check.is_fine(), &mut |read| {
        found.push((read.row, read.line));
        Ok(())
    });
    match done {
        Ok(()) => Ok(found),
        Err(ReadError::File(fault)) => Err(fault),
        Err(ReadError::Io(error)) => Err(Fault::new(0, error.to_string())),
    }
}

fn shown(rows: &[(Row, u64)]) -> Vec<(String, &'static str, String, String, u64)> {
    let show = |(row, line): &(Row, u64)| {
        let amount = row.amount.unwrap().to_string();
        (row.key.to_string(), row.class.as_str(), amount, row.currency.to_string(), *line)
    };
    rows.iter().map(show).collect()
}

fn expect(
    key: &str,
    class: &'static str,
    amount: &str,
    currency: &str,
    line: u64,
) -> (String, &'static str, String, String, u64) {
    (key.to_owned(), class, amount.to_owned(), currency.to_owned(), line)
}

#[test]
fn a_wechat_bill_with_its_backticks_and_its_summary() {
    let bill = "\u{feff}交易时间,公众账号ID,商户订单号,交易状态,货币种类,应结订单金额,退款金额,订单金额,申请退款金额\r\n\
        `2026-11-22 10:00:00,`wx1,`ord_a,`SUCCESS,`CNY,`72.50,`0.00,`72.50,`0.00\r\n\
        `2026-11-22 11:00:00,`wx1,`ord_a,`REFUND,`CNY,`0.00,`2.50,`0.00,`2.50\r\n\
        总交易单数,应结订单总金额,退款总金额\r\n`2,`72.50,`2.50\r\n";
    let rows = read(&Format::by_name("wechat").unwrap(), bill.as_bytes()).unwrap();
    let wanted = [expect("ord_a", "payment", "72.5", "CNY", 2), expect("ord_a", "refund", "-2.5", "CNY", 3)];
    assert_eq!(shown(&rows), wanted);
    // 10:00 in Shanghai.
    assert_eq!(rows[0].0.at_ms, 1_795_312_800_000);
}

#[test]
fn an_alipay_bill_in_gb18030_and_in_utf8() {
    let bill = "#支付宝业务明细查询\r\n#账号：[2088000000000000]\r\n#-----业务明细列表-----\r\n\
        支付宝交易号,商户订单号,业务类型,完成时间,订单金额（元）,商家实收（元）\r\n\
        2026112200000001\t,ord_a\t,交易    ,2026-11-22 10:00:00,72.50,72.50\r\n\
        2026112200000001\t,ord_a\t,退款    ,2026-11-22 11:00:00,-2.50,-2.50\r\n\
        #-----业务明细列表结束-----\r\n#业务明细合计：1笔\r\n";
    let format = Format::by_name("alipay").unwrap();
    let (gb, _, _) = GB18030.encode(bill);
    for bytes in [bill.as_bytes(), &gb] {
        let rows = read(&format, bytes).unwrap();
        let wanted =
            [expect("ord_a", "payment", "72.5", "CNY", 5), expect("ord_a", "refund", "-2.5", "CNY", 6)];
        assert_eq!(shown(&rows), wanted);
    }
}

#[test]
fn stripes_two_exports() {
    let balance = "balance_transaction_id,created_utc,currency,gross,fee,net,reporting_category,payment_intent_id\n\
        txn_1,2026-11-22 08:00:00,usd,10.00,0.59,9.41,charge,pi_1\n\
        txn_2,2026-11-22 09:00:00,usd,-4.00,0.00,-4.00,refund,pi_1\n\
        txn_3,2026-11-22 10:00:00,usd,-6.00,15.00,-21.00,dispute,pi_1\n\
        txn_4,2026-11-22 11:00:00,usd,-100.00,0.00,-100.00,payout,\n";
    let rows = read(&Format::by_name("stripe-balance").unwrap(), balance.as_bytes()).unwrap();
    let wanted = [
        expect("pi_1", "payment", "10", "USD", 2),
        expect("pi_1", "refund", "-4", "USD", 3),
        expect("pi_1", "dispute", "-6", "USD", 4),
    ];
    assert_eq!(shown(&rows), wanted);
    let payments = "id,Created date (UTC),Amount,Amount Refunded,Currency,Status,PaymentIntent ID\n\
        ch_1,2026-11-22 08:00,\"1,000.00\",4.00,usd,Paid,pi_1\nch_2,2026-11-22 08:00,5.00,0.00,usd,Failed,pi_2\n";
    let rows = read(&Format::by_name("stripe-payments").unwrap(), payments.as_bytes()).unwrap();
    let wanted = [expect("pi_1", "refund", "-4", "USD", 2), expect("pi_1", "payment", "1000", "USD", 2)];
    assert_eq!(shown(&rows), wanted);
}

#[test]
fn the_cost_reports_of_two_upstreams() {
    let openai = r#"{"object": "page", "data": [{"object": "bucket", "start_time": 1795305600, "end_time": 1795392000,
        "results": [{"amount": {"value": 0.06, "currency": "usd"}, "line_item": "gpt-5-mini, input"},
                    {"amount": {"value": 1e-5, "currency": "usd"}, "line_item": "gpt-5-mini, output"}]}], "has_more": false}"#;
    let rows = read(&Format::by_name("openai-costs").unwrap(), openai.as_bytes()).unwrap();
    let wanted =
        [expect("2026-11-22", "cost", "0.06", "USD", 1), expect("2026-11-22", "cost", "0.00001", "USD", 1)];
    assert_eq!(shown(&rows), wanted);
    let anthropic = r#"{"data": [{"starting_at": "2026-11-22T00:00:00Z", "ending_at": "2026-11-23T00:00:00Z",
        "results": [{"amount": "123.45", "currency": "USD", "model": "claude-sonnet-4-5"}]}], "has_more": false}"#;
    let rows = read(&Format::by_name("anthropic-costs").unwrap(), anthropic.as_bytes()).unwrap();
    assert_eq!(shown(&rows), [expect("2026-11-22", "cost", "1.2345", "USD", 1)]);
}

/// B7.
#[test]
fn what_is_wrong_with_a_file_is_told_with_its_line() {
    let format = Format::by_name("stripe-balance").unwrap();
    let head = "created_utc,currency,gross,reporting_category,payment_intent_id\n";
    let fault = |rest: &str| read(&format, format!("{head}{rest}").as_bytes()).unwrap_err();
    for (rest, line, reason) in [
        ("2026-11-22 08:00:00,usd,10.00,charge\n", 2, "4 values where the columns are 5"),
        (
            "2026-11-22 08:00:00,usd,10.00,charge,pi_1\n2026-11-22 08:00:00,usd,ten,charge,pi_2\n",
            3,
            "\"ten\" is no number",
        ),
        ("yesterday,usd,10.00,charge,pi_1\n", 2, "\"yesterday\" is no time"),
        ("2026-11-22 08:00:00,dollars,10.00,charge,pi_1\n", 2, "\"DOLLARS\" is no currency"),
        ("2026-11-22 08:00:00,usd,10.00,charge,\n", 2, "no number to find it by"),
        ("2026-11-22 08:00:00,usd,0.0000000001,charge,pi_1\n", 2, "more than nine places"),
    ] {
        let told = fault(rest);
        assert_eq!(told.line, line, "{told:?}");
        assert!(told.reason.contains(reason), "{told:?}");
    }
    let told = read(&format, b"created_utc,currency,net,reporting_category,payment_intent_id\n").unwrap_err();
    assert_eq!((told.line, told.reason.as_str()), (1, "the column \"gross\" is not there"));
    // Whose value would be taken? A column that is not read may be there as often as it likes.
    let twice = "note,created_utc,currency,gross,note,reporting_category,payment_intent_id,gross\n";
    let told = read(&format, twice.as_bytes()).unwrap_err();
    assert_eq!((told.line, told.reason.as_str()), (1, "the column \"gross\" is there twice"));
    let rest = twice.replacen(",gross\n", "\n", 1) + "a,2026-11-22 08:00:00,usd,10.00,b,charge,pi_1\n";
    assert_eq!(read(&format, rest.as_bytes()).unwrap().len(), 1);
    assert!(read(&format, b"a,b\n1,2\n").unwrap_err().reason.contains("no line has the columns"));
    // Neither UTF-8 nor GB18030.
    let told = read(&format, &[b'a', b'\n', b'b', 0xff, 0xff, b'\n']).unwrap_err();
    assert_eq!((told.line, told.reason.as_str()), (2, "the text is not of the file's encoding"));
}
