// The accounts of the books, and what each means (docs/audit/money.md).

/** @type {Record<string, string>} */
export const MEANINGS = {
  network: "what the card networks owe us",
  merchant_balance: "what we owe the merchant",
  processing_fees: "what we earned with charges",
  dispute_fees: "what we earned with disputes",
};

export const LEDGER_ACCOUNTS = Object.keys(MEANINGS);
