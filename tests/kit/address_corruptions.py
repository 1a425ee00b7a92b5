"""Corruptions of addresses, contacts and the history of statuses."""

from tests.kit.corruption_parts import (
    ACCOUNT,
    ANN_IS,
    FAILED,
    IMPORT,
    OLD_WAS,
    OPT_IN,
    PAUSED,
    STAFF_IS,
    Corruption,
    address_id,
    last_applied,
)

ADDRESS_CORRUPTIONS = (
    Corruption(
        "every_history_is_unbroken",
        "an address has another status than its last result",
        STAFF_IS.format(what="status = 'bounce'"),
    ),
    *(
        Corruption(
            "every_history_is_unbroken",
            f"an address contradicts its last result: {what}",
            STAFF_IS.format(what=what),
        )
        for what in (
            "previous_status = 'bounce'",
            f"status_job_id = {IMPORT}",
            "status_job_id = null",
        )
    ),
    Corruption(
        "every_history_is_unbroken",
        "an address has another source than its last result",
        f"update email_addresses set propagated_from = {address_id('ann')}"
        " where match_key = 'staff0@example.com'",
    ),
    Corruption(
        "every_history_is_unbroken",
        "a result begins with a status that no result ended with",
        STAFF_IS.format(what="previous_status = 'lockdown'") + "; update results"
        " set from_status = 'lockdown' where"
        f" {last_applied('staff3')}",
    ),
    Corruption(
        "every_history_is_unbroken",
        "a result says that a known address was new",
        STAFF_IS.format(what="previous_status = null") + "; update results"
        " set from_status = null where"
        f" {last_applied('staff3')}",
    ),
    Corruption(
        "every_history_is_unbroken",
        "the last change of an address has no result",
        f"delete from results where {last_applied('staff3')}",
        also=("chunk_counts_are_those_of_its_rows", "every_selected_address_has_a_result"),
    ),
    Corruption(
        "every_history_is_unbroken",
        "an address names a job but has no result",
        "insert into email_addresses (account_id, address, match_key, status, status_job_id)"
        f" values ({ACCOUNT}, 'x', 'x', 'single_opt_in', {OPT_IN})",
    ),
    Corruption(
        "every_history_is_unbroken",
        "the address of a result is missing",
        f"delete from contact_emails where address_id = {address_id('staff3')};"
        " delete from email_addresses where match_key = 'staff3@example.com'",
    ),
    Corruption(
        "every_history_is_unbroken",
        "a result refers to another one that its job does not have",
        f"""
        update results set reason = 'same_address_in_job'
        where job_id = {FAILED} and outcome = 'rejected';
        update job_chunks set reasons = '{{"rejected:same_address_in_job": 1}}'
        where job_id = {FAILED} and chunk_no = 1
        """,
    ),
    *(
        Corruption(
            "no_opt_out_was_reopened",
            f"an opt-in changed an address that was {status}",
            f"{OLD_WAS} update results set from_status = '{status}'"
            f" where address_id = {address_id('old')} and job_id = {OPT_IN}"
            " and outcome = 'applied'",
        )
        for status in ("admin", "manual", "list_unsubscribe", "feedback", "spam")
    ),
    Corruption(
        "no_opt_out_was_reopened",
        "an opt-out was reopened through a non-marketable status",
        f"{OLD_WAS} update results set from_status = 'manual', to_status = 'non_marketable'"
        f" where address_id = {address_id('old')} and job_id = {OPT_IN} and outcome = 'applied';"
        f" update results set from_status = 'non_marketable' where address_id = {address_id('old')}"
        f" and job_id <> {OPT_IN} and outcome = 'applied';"
        " update email_addresses set previous_status = 'non_marketable'"
        " where match_key = 'old@example.com'",
    ),
    Corruption(
        "no_opt_out_was_reopened",
        "a marketable address was opted out just before",
        f"{OLD_WAS} insert into email_addresses"
        " (account_id, address, match_key, status, previous_status)"
        f" values ({ACCOUNT}, 'x', 'x', 'single_opt_in', 'manual')",
    ),
    Corruption(
        "no_opt_out_was_lost",
        "an address has a lower rank than a result found",
        "update results set from_status = 'spam'"
        f" where address_id = {address_id('eve')} and reason = 'already_opted_out'",
    ),
    Corruption(
        "no_opt_out_was_lost",
        "an address has a lower rank than a result gave it",
        ANN_IS.format(what="status = 'admin'"),
        also=("every_history_is_unbroken",),
    ),
    Corruption(
        "no_opt_out_was_lost",
        "an opt-out in its own right became a propagated one",
        f"update email_addresses set propagated_from = {address_id('ann')}"
        " where match_key = 'bob@example.com'",
        also=("every_history_is_unbroken",),
    ),
    Corruption(
        "no_opt_out_was_lost",
        "an opted-out address became a bounced one",
        "update email_addresses set status = 'hard_bounce' where match_key = 'bob@example.com'",
        also=("every_history_is_unbroken",),
    ),
    Corruption(
        "no_opt_out_was_lost",
        "an opted-out address is missing",
        f"delete from contact_emails where address_id = {address_id('bob')};"
        " delete from email_addresses where match_key = 'bob@example.com'",
        also=("every_history_is_unbroken",),
    ),
    Corruption(
        "no_sibling_of_an_opt_out_is_marketable",
        "contacts were inserted without propagating the opt-out",
        f"""
        insert into contacts (account_id, id) values ({ACCOUNT}, 77), ({ACCOUNT}, 78);
        insert into email_addresses (account_id, id, address, match_key, status, contact_count)
        values ({ACCOUNT}, 770, 'x', 'x', 'feedback', 1),
               ({ACCOUNT}, 771, 'y', 'y', 'unengaged_marketable', 2);
        insert into contact_emails (account_id, contact_id, field, address_id)
        values ({ACCOUNT}, 77, 1, 770), ({ACCOUNT}, 77, 3, 771), ({ACCOUNT}, 78, 1, 771)
        """,
    ),
    Corruption(
        "no_sibling_of_an_opt_out_is_marketable",
        "an import ended without its final counts and propagation",
        f"""
        insert into job_states (account_id, job_id, state)
        values ({ACCOUNT}, {PAUSED}, 'cancelled');
        update jobs j set state = 'cancelled', finished_at = clock_timestamp(),
            (applied, unchanged, rejected, empty, propagated) =
            (select s.applied, s.unchanged, s.rejected, s.empty, s.propagated
             from job_sums(j.account_id, j.id) s)
        where state = 'paused'
        """,
        also=("every_address_counts_its_contacts", "every_change_of_state_has_its_actor"),
    ),
    Corruption(
        "every_address_counts_its_contacts",
        "an address counts one contact too many",
        STAFF_IS.format(what="contact_count = contact_count + 1"),
    ),
    Corruption(
        "every_address_counts_its_contacts",
        "an address counts a repeat that does not exist",
        STAFF_IS.format(what="repeat_count = repeat_count + 1"),
    ),
    Corruption(
        "every_repeat_has_the_addresses_of_another",
        "a contact is a repeat although no other has its addresses",
        "update contacts set is_repeat = true where given_name = 'staff3'",
        also=("every_address_counts_its_contacts",),
    ),
    Corruption(
        "every_recognized_row_is_its_contacts",
        "a row was recognized as a contact with other addresses",
        "update recognized_rows set contact_id = (select id from contacts where given_name ="
        " 'cid')",
        also=("every_result_names_its_contact",),
    ),
    Corruption(
        "every_result_names_its_contact",
        "a result names another contact than its item's",
        f"update results set contact_id = item_id + 1 where job_id = {OPT_IN}"
        " and outcome = 'applied'",
    ),
    Corruption(
        "every_result_names_its_contact",
        "a result of an unknown id names a contact",
        "update results r set contact_id = (select min(c.id) from contacts c"
        " where c.account_id = r.account_id) where reason = 'contact_not_found'",
    ),
    Corruption(
        "every_result_names_its_contact",
        "a result names an import row that created no contact",
        "update results r set contact_id = r.item_id from recognized_rows m"
        " where m.job_id = r.job_id and m.item_id = r.item_id",
    ),
    Corruption(
        "every_address_counts_its_contacts",
        "a role address counts too many contacts during an import",
        "update email_addresses set contact_count = 100 where match_key = 'info@example.com'",
    ),
    Corruption(
        "every_address_counts_its_contacts",
        "a role address counts too few contacts during an import",
        "update email_addresses set contact_count = 2 where match_key = 'info@example.com'",
    ),
    Corruption(
        "every_address_counts_its_contacts",
        "an address without a contact counts one",
        "insert into email_addresses (account_id, address, match_key, status, contact_count)"
        f" values ({ACCOUNT}, 'x', 'x', 'single_opt_in', 1)",
    ),
)
