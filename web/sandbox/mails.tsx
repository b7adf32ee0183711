import { useState } from 'preact/hooks';
import { announce } from '../shared/announce';
import { count } from '../shared/text';
import { shownTime } from '../shared/time';
import { Outside, Value } from '../shared/value';
import { ask, type Mail } from './api';
import { useAsked } from './use-asked';

const page = 20;

export function MailsSection() {
  const { answer: mails, fault, reload } = useAsked<Mail[]>('/mails');
  const [open, setOpen] = useState<number>();
  const [shown, setShown] = useState(page);
  return (
    <section class="card" aria-labelledby="mails">
      <div class="row apart">
        <h2 id="mails">Caught mails</h2>
        {mails !== undefined && mails.length > 0 && (
          <button
            type="button"
            class="danger"
            onClick={() => void ask('DELETE', '/mails').then(() => (announce('No mail is kept any more.'), reload()))}
          >
            Forget all
          </button>
        )}
      </div>
      <p class="quiet">What owners, and who is to edit the DNS, are mailed. Nothing of it leaves this machine.</p>
      {fault && (
        <p class="note bad" role="alert">
          {fault}
        </p>
      )}
      {mails?.length === 0 && <p>No mail was sent yet.</p>}
      {mails && (
        <ul class="plain stack">
          {mails.slice(0, shown).map((mail) => (
            <li key={mail.id} class="stack">
              <div class="row apart">
                <div class="wide">
                  <h3>
                    <Outside text={mail.subject} />
                  </h3>
                  <p class="quiet small">
                    to <Value text={mail.to.join(', ')} /> · {shownTime(mail.date)}
                  </p>
                </div>
                <button
                  type="button"
                  aria-expanded={open === mail.id}
                  aria-label={`${open === mail.id ? 'Close' : 'Read'} mail ${mail.id}: ${mail.subject}`}
                  onClick={() => setOpen(open === mail.id ? undefined : mail.id)}
                >
                  {open === mail.id ? 'Close' : 'Read'}
                </button>
              </div>
              {open === mail.id && <MailText mail={mail} />}
            </li>
          ))}
        </ul>
      )}
      {mails && mails.length > shown && (
        <p>
          <button type="button" onClick={() => setShown(shown + page)}>
            Show more of {count(mails.length, 'mail')}
          </button>
        </p>
      )}
    </section>
  );
}

const links = /https?:\/\/[^\s<>"]+/g;

/** Shows the text of a mail, in which addresses of pages can be followed, and its HTML as a mail program does. */
function MailText({ mail }: { readonly mail: Mail }) {
  const pieces: (string | { readonly link: string })[] = [];
  let from = 0;
  for (const { 0: link, index } of mail.text.matchAll(links)) {
    pieces.push(mail.text.slice(from, index), { link });
    from = index + link.length;
  }
  pieces.push(mail.text.slice(from));
  return (
    <div class="stack">
      <pre tabIndex={0} aria-label="Text of the mail" role="group">
        {pieces.map((piece) =>
          typeof piece === 'string' ? (
            piece
          ) : (
            <a href={piece.link} target="_blank" rel="noopener noreferrer">
              {piece.link}
            </a>
          ),
        )}
      </pre>
      {mail.html && (
        <details>
          <summary>As HTML</summary>
          <iframe sandbox="" src={`/mails/${mail.id}/html`} title={`Mail ${mail.id} as HTML`} />
        </details>
      )}
    </div>
  );
}
