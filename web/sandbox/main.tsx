import { render } from 'preact';
import { Announcements } from '../shared/announce';
import { FaultsSection } from './faults';
import { MailsSection } from './mails';
import { ZoneSection } from './zone';

function Sandbox() {
  return (
    <>
      <a class="skip" href="#main">
        Skip to the content
      </a>
      <header class="top">
        <div>
          <strong>Sandbox</strong>
          <nav aria-label="Parts">
            <ul>
              <li>
                <a href="#zone">Zone</a>
              </li>
              <li>
                <a href="#mails">Mails</a>
              </li>
              <li>
                <a href="#faults">Faults</a>
              </li>
            </ul>
          </nav>
        </div>
      </header>
      <main id="main" tabIndex={-1}>
        <div class="stack">
          <h1>A stand-in for the DNS, Amazon SES and the owners’ mailboxes</h1>
          <p class="quiet">For development only. Everything here is of this machine alone.</p>
        </div>
        <ZoneSection />
        <MailsSection />
        <FaultsSection />
      </main>
      <Announcements />
    </>
  );
}

render(<Sandbox />, document.getElementById('page')!);
