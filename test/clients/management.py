"""Calls each operation that the Python client has for domains, mailboxes, keys and webhooks, and has each kind of error raised.

Reads one line of JSON from stdin: where, with which keys, on what. Writes one line of JSON for each call.
"""

import json
import sys
import traceback

from sendmux_core import RetryOptions, SendmuxApiError, iter_cursor_pages
from sendmux_management import create_management_client
from sendmux_management.api.connection_api import ConnectionApi
from sendmux_management.api.domain_filters_api import DomainFiltersApi
from sendmux_management.api.domains_api import DomainsApi
from sendmux_management.api.mailbox_filters_api import MailboxFiltersApi
from sendmux_management.api.mailboxes_api import MailboxesApi
from sendmux_management.api.webhooks_api import WebhooksApi
from sendmux_management.models.management_create_domain_request import ManagementCreateDomainRequest
from sendmux_management.models.management_create_mailbox_key_request import ManagementCreateMailboxKeyRequest
from sendmux_management.models.management_create_mailbox_request import ManagementCreateMailboxRequest
from sendmux_management.models.management_update_domain_request import ManagementUpdateDomainRequest
from sendmux_management.models.set_filter_state_body import SetFilterStateBody
from sendmux_management.models.update_mailbox_body import UpdateMailboxBody
from sendmux_management.models.webhook_create_body import WebhookCreateBody
from sendmux_management.models.webhook_update_body import WebhookUpdateBody

given = json.loads(sys.stdin.readline())


def client(key):
    # Errors are to be seen, not waited for.
    return create_management_client(
        api_key=key, base_url=given["base_url"], retry_options=RetryOptions(max_attempts=1)
    )


def call(name, operation):
    """Gives the answer, or None where there is none; says what came."""
    try:
        answer = operation()
        print(json.dumps({"call": name, "outcome": "answer"}), flush=True)
        return answer
    except SendmuxApiError as error:
        said = {"status": error.status_code, "code": error.code, "retryable": error.retryable, "id": error.request_id}
        print(json.dumps({"call": name, "outcome": "error", **said}), flush=True)
    except Exception:
        print(json.dumps({"call": name, "outcome": "broken", "why": traceback.format_exc(limit=-3)}), flush=True)
    return None


own = client(given["key"])
domains, mailboxes = DomainsApi(own), MailboxesApi(own)
filters = SetFilterStateBody.from_dict({"mode": "off", "rules": []})
verified = given["verified_domain"]

call("managementGetConnection", ConnectionApi(own).management_get_connection)

added = call(
    "managementCreateDomain",
    lambda: domains.management_create_domain(
        idempotency_key="python-1",
        management_create_domain_request=ManagementCreateDomainRequest(
            domain=given["new_domain"], mode=given["new_mode"]
        ),
    ),
)
domain = added.data.id if added else "mdom_none"
call("managementListDomains", lambda: domains.management_list_domains(limit=100))
call("managementGetDomain", lambda: domains.management_get_domain(domain))
call(
    "managementUpdateDomain",
    lambda: domains.management_update_domain(
        domain, management_update_domain_request=ManagementUpdateDomainRequest(mode="send_receive")
    ),
)
call("managementGetDomainZoneFile", lambda: domains.management_get_domain_zone_file(domain))
call("managementVerifyDomain", lambda: domains.management_verify_domain(verified["id"]))
call("managementGetDomainFilters", lambda: DomainFiltersApi(own).management_get_domain_filters(domain))
call(
    "managementSetDomainFilters",
    lambda: DomainFiltersApi(own).management_set_domain_filters(domain, set_filter_state_body=filters),
)

address = "ada@" + verified["domain"]
call("managementCheckMailboxAvailability", lambda: mailboxes.management_check_mailbox_availability(address))
created = call(
    "managementCreateMailbox",
    lambda: mailboxes.management_create_mailbox(
        idempotency_key="python-1",
        management_create_mailbox_request=ManagementCreateMailboxRequest(email=address, display_name="Ada Lovelace"),
    ),
)
mailbox = created.data.mailbox.id if created else "mbx_none"
call("managementListMailboxes", mailboxes.management_list_mailboxes)
call("managementGetMailbox", lambda: mailboxes.management_get_mailbox(mailbox))
call(
    "managementUpdateMailbox",
    lambda: mailboxes.management_update_mailbox(mailbox, update_mailbox_body=UpdateMailboxBody(display_name="Ada")),
)
call("managementSuspendMailbox", lambda: mailboxes.management_suspend_mailbox(mailbox))
call("managementResumeMailbox", lambda: mailboxes.management_resume_mailbox(mailbox))
call("managementGetMailboxFilters", lambda: MailboxFiltersApi(own).management_get_mailbox_filters(mailbox))
call(
    "managementSetMailboxFilters",
    lambda: MailboxFiltersApi(own).management_set_mailbox_filters(mailbox, set_filter_state_body=filters),
)
call(
    "managementCreateMailboxKey",
    lambda: mailboxes.management_create_mailbox_key(
        mailbox, management_create_mailbox_key_request=ManagementCreateMailboxKeyRequest(app_name="mail")
    ),
)
call("managementDeleteMailboxKey", lambda: mailboxes.management_delete_mailbox_key(mailbox, "key_none"))
call("managementDeleteMailbox", lambda: mailboxes.management_delete_mailbox(mailbox))
call("managementDeleteDomain", lambda: domains.management_delete_domain(domain))

# The client knows no type of ours but that of tests, and fails on deliveries of any other.
webhooks = WebhooksApi(own)
made = call(
    "managementCreateWebhook",
    lambda: webhooks.management_create_webhook(
        idempotency_key="python-1",
        webhook_create_body=WebhookCreateBody(url=given["webhook_url"], event_types=["sendmux.test"], name="CRM"),
    ),
)
webhook = made.data.id if made else "whk_none"
call("managementListWebhooks", webhooks.management_list_webhooks)
call("managementGetWebhook", lambda: webhooks.management_get_webhook(webhook))
call(
    "managementUpdateWebhook",
    lambda: webhooks.management_update_webhook(webhook, webhook_update_body=WebhookUpdateBody(name="ERP")),
)
call("managementRotateWebhookSecret", lambda: webhooks.management_rotate_webhook_secret(webhook))
call("managementTestWebhook", lambda: webhooks.management_test_webhook(webhook))
call("managementDeleteWebhook", lambda: webhooks.management_delete_webhook(webhook))

call("401", lambda: DomainsApi(client("smx_root_nobodys")).management_list_domains())
call("403", lambda: DomainsApi(client(given["readonly_key"])).management_delete_domain(verified["id"]))
call("404", lambda: domains.management_get_domain("mdom_none"))
call(
    "409",
    lambda: domains.management_create_domain(
        management_create_domain_request=ManagementCreateDomainRequest(domain=verified["domain"])
    ),
)
call(
    "422",
    lambda: mailboxes.management_create_mailbox(
        management_create_mailbox_request=ManagementCreateMailboxRequest.from_dict(
            {"email": address, "send_scope": {"type": "providers", "provider_public_ids": ["nobody"]}}
        )
    ),
)
limited = ConnectionApi(client(given["limited_key"]))
for _ in range(2 * given["limit"] + 1):
    try:
        limited.management_get_connection()
    except SendmuxApiError:
        break
call("429", limited.management_get_connection)

many = DomainsApi(client(given["many_key"]))
names = [item.domain for item in iter_cursor_pages(lambda cursor: many.management_list_domains(cursor=cursor))]
print(json.dumps({"call": "whole list", "outcome": "answer", "names": names}), flush=True)
