"""Verifies the signatures of webhooks by the public libraries `standardwebhooks` and `svix`.

Case: the `secret` of a receiver, the `headers` and the `body` that it got. Says: for each library whether it `accepts`
them, or why not.
"""
import standardwebhooks
import svix.webhooks


def judge(case):
    return {
        library: verdict(webhook, case)
        for library, webhook in (("standardwebhooks", standardwebhooks.Webhook), ("svix", svix.webhooks.Webhook))
    }


def verdict(webhook, case):
    try:
        webhook(case["secret"]).verify(case["body"].encode(), case["headers"])
        return "accepts"
    except (standardwebhooks.WebhookVerificationError, svix.webhooks.WebhookVerificationError) as error:
        return str(error)
