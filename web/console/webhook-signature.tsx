import { Copied } from '../shared/copy';

/** How an endpoint verifies a message, in two languages. */
const examples = {
  'Node.js: npm install standardwebhooks': `import { Webhook } from 'standardwebhooks';

// body is the request's body as it came, before it is parsed.
const event = new Webhook(process.env.WEBHOOK_SECRET).verify(body, headers);`,
  'Python: pip install standardwebhooks': `from standardwebhooks import Webhook

# body is the request's body as it came, before it is parsed.
event = Webhook(os.environ["WEBHOOK_SECRET"]).verify(body, headers)`,
} as const;

/** Shows how a signature is verified, and what it is made of. */
export function SignatureExample() {
  return (
    <section class="card stack" aria-labelledby="signature">
      <h2 id="signature">How your endpoint verifies a message</h2>
      <p class="quiet">
        Every message is signed as <a href="https://www.standardwebhooks.com">Standard Webhooks</a> has it, so that
        there are libraries in most languages. Answer 2xx within 15 seconds; a message may come twice, under the same{' '}
        <span class="value">webhook-id</span>.
      </p>
      {Object.entries(examples).map(([title, code]) => (
        <div key={title}>
          <h3>{title}</h3>
          <Copied text={code} what={`the example for ${title.split(':', 1)[0]!}`}>
            <pre class="value" tabIndex={0}>
              {code}
            </pre>
          </Copied>
        </div>
      ))}
      <p class="quiet small">
        Without a library: <span class="value">webhook-signature</span> has, after <span class="value">v1,</span>, the
        base64 of the HMAC-SHA256 of <span class="value">{'{webhook-id}.{webhook-timestamp}.{body}'}</span>, under the
        octets that the secret has in base64 after <span class="value">whsec_</span>. During a rotation there are two,
        with a space between. Refuse a timestamp that is more than five minutes away.
      </p>
    </section>
  );
}
