"""Names of form fields for a recipient's address, and names for another person's."""

RECIPIENTS = (
    *("email", "Email", "EMAIL1", "e-mail", "E-Mail 2 Address", "Email Address 2", "EmailAddress3"),
    *(
        "mail",
        "address",
        "recipient",
        "Recipient[]",
        "emails[0][address]",
        "email[]",
        "Email (Work)",
    ),
    *("data[email]", "contact[email]", "Contact.Email", "inf_field_Email", "contactEmail"),
    *("inf_field_EmailAddress2", "fields[email][value]", "merges[EMAIL]", "data[merges][EMAIL]"),
    *(
        "subscriber_email",
        "customer.email",
        "lead[email]",
        "properties.email.value",
        "primary-email",
    ),
)


OTHERS = (
    *("owner_email", "Owner.Email", "account manager", "account_manager[email]", "reply_to"),
    *(
        "replyToEmail",
        "from",
        "from_email",
        "email_from",
        "sender",
        "sender[address]",
        "user[email]",
    ),
    *("contact[owner][email]", "contact.owner_email", "friend_email", "spouse email", "cc", "bcc"),
    *("to", "assistant_email", "company_email", "ip_address", "postal address", "note", "message"),
    *(
        "referrer_email",
        "email_template",
        "",
        "@",
        "emailowner",
        "sales rep email",
        "raw_message",
        "event",
        "homeowner mail",
    ),
)
