#!/usr/bin/perl
# The docker command of the fake Engine: hands its arguments to the Engine, step by step, and shows what that answers.
# So a command that is killed in the middle leaves its work half done, as the real one does.
use strict;
use warnings;
use IO::Socket::UNIX;

my $host = $ENV{DOCKER_HOST} // '';
(my $path = $host) =~ s{^unix://}{};
my $words = join("\0", @ARGV);
if (grep { $_ eq '--password-stdin' } @ARGV) { local $/; my $password = <STDIN>; }
$| = 1;
for (my $step = 0; ; $step++) {
    my $engine = IO::Socket::UNIX->new(Peer => $path) or fail();
    print $engine "POST /cli?step=$step HTTP/1.1\r\nHost: engine\r\nContent-Length: ", length($words), "\r\n\r\n$words";
    my $answer = do { local $/; <$engine> } // '';
    # "more" or the exit status, a line end, and what is to be shown.
    my ($verdict, $text) = $answer =~ /\r\n\r\n(more|\d+)\n(.*)\z/s or fail();
    print $text;
    exit $verdict if $verdict ne 'more';
    select(undef, undef, undef, 0.02) if $text eq '';
}

sub fail {
    print STDERR "Cannot connect to the Docker daemon at $host. Is the docker daemon running?\n";
    exit 1;
}
